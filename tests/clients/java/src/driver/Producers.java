package driver;

import com.alibaba.fastjson.JSONArray;
import com.alibaba.fastjson.JSONObject;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.MessageQueueSelector;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;

/** The sending verbs. */
final class Producers {
    /** What users write for "one order, one queue": the order's number modulo the number of queues. */
    private static final MessageQueueSelector BY_NUMBER =
        (queues, message, number) -> queues.get((int) ((Long) number % queues.size()));

    private Producers() {
    }

    static void addTo(Map<String, Driver.Verb> verbs) {
        verbs.put("producer.start", Producers::start);
        verbs.put("send", Producers::send);
        verbs.put("send.batch", Producers::sendBatch);
    }

    private static Object start(JSONObject request) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(request.getString("group"));
        producer.setNamesrvAddr(request.getString("namesrv"));
        producer.setInstanceName(request.getString("member"));
        producer.setSendMsgTimeout(15_000); // Machines that run suites are slow at times; none of it is about speed.
        producer.start();
        Members.add(request, producer, producer::shutdown);
        return null;
    }

    private static Object send(JSONObject request) throws Exception {
        DefaultMQProducer producer = Members.find(request, DefaultMQProducer.class);
        List<JSONObject> messages = request.getJSONArray("messages").toJavaList(JSONObject.class);
        String how = request.getString("how");
        if (how.equals("async")) {
            return sendAsync(producer, messages);
        }
        List<JSONObject> results = new ArrayList<>();
        for (JSONObject json : messages) {
            JSONObject result;
            try {
                result = how.equals("oneway") ? sendOneway(producer, json) : Messages.toJson(sendSync(producer, json));
            } catch (Exception problem) {
                result = new JSONObject();
                result.put("error", Driver.error(problem));
            }
            results.add(result);
        }
        return results;
    }

    private static SendResult sendSync(DefaultMQProducer producer, JSONObject json) throws Exception {
        Message message = Messages.fromJson(json);
        if (json.containsKey("queue")) {
            return producer.send(message, queue(producer, json));
        } else if (json.containsKey("orderNumber")) {
            return producer.send(message, BY_NUMBER, json.getLong("orderNumber"));
        } else if (json.containsKey("orderKey")) {
            return producer.send(message, new SelectMessageQueueByHash(), json.getString("orderKey"));
        }
        return producer.send(message);
    }

    private static JSONObject sendOneway(DefaultMQProducer producer, JSONObject json) throws Exception {
        Message message = Messages.fromJson(json);
        if (json.containsKey("queue")) {
            producer.sendOneway(message, queue(producer, json));
        } else {
            producer.sendOneway(message);
        }
        return new JSONObject();
    }

    private static MessageQueue queue(DefaultMQProducer producer, JSONObject json) throws Exception {
        for (MessageQueue queue : producer.fetchPublishMessageQueues(json.getString("topic"))) {
            if (queue.getQueueId() == json.getIntValue("queue")) {
                return queue;
            }
        }
        throw new IllegalArgumentException("the route has no queue " + json.getIntValue("queue"));
    }

    private static Object sendAsync(DefaultMQProducer producer, List<JSONObject> messages) throws Exception {
        JSONObject[] results = new JSONObject[messages.size()];
        CountDownLatch open = new CountDownLatch(results.length);
        for (int i = 0; i < results.length; i++) {
            int index = i;
            producer.send(Messages.fromJson(messages.get(i)), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    finish(Messages.toJson(result));
                }

                @Override
                public void onException(Throwable problem) {
                    JSONObject result = new JSONObject();
                    result.put("error", Driver.error(problem));
                    finish(result);
                }

                private void finish(JSONObject result) {
                    results[index] = result;
                    open.countDown();
                }
            });
        }
        if (!open.await(20, TimeUnit.SECONDS)) {
            throw new IllegalStateException(open.getCount() + " callbacks never came");
        }
        return results;
    }

    private static Object sendBatch(JSONObject request) throws Exception {
        DefaultMQProducer producer = Members.find(request, DefaultMQProducer.class);
        List<Message> messages = new ArrayList<>();
        JSONArray array = request.getJSONArray("messages");
        for (int i = 0; i < array.size(); i++) {
            messages.add(Messages.fromJson(array.getJSONObject(i)));
        }
        return Messages.toJson(producer.send(messages));
    }
}
