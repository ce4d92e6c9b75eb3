package driver;

import com.alibaba.fastjson.JSONArray;
import com.alibaba.fastjson.JSONObject;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;

/** Push consumers. Each message handed to a listener is one observation. */
final class Consumers {
    /** Listeners at work per group and queue, over all members of this process: shows two at once on one queue. */
    private static final Map<String, AtomicInteger> AT_WORK = new ConcurrentHashMap<>();

    private Consumers() {
    }

    static void addTo(Map<String, Driver.Verb> verbs) {
        verbs.put("consumer.start", Consumers::start);
    }

    private static Object start(JSONObject request) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(request.getString("group"));
        consumer.setNamesrvAddr(request.getString("namesrv"));
        // The instance name is part of the client id, which names the file of a broadcast consumer's offsets.
        consumer.setInstanceName(request.containsKey("instance") ? request.getString("instance") : request.getString("member"));
        consumer.setPersistConsumerOffsetInterval(1000);
        consumer.setConsumeThreadMin(4);
        consumer.setConsumeThreadMax(4);
        consumer.setConsumeFromWhere("last".equals(request.getString("from"))
            ? ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET : ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setAllocateMessageQueueStrategy("circle".equals(request.getString("strategy"))
            ? new AllocateMessageQueueAveragelyByCircle() : new AllocateMessageQueueAveragely());
        Version.setModel(consumer, request.getBooleanValue("broadcast"));
        JSONArray subscriptions = request.getJSONArray("subscriptions");
        for (int i = 0; i < subscriptions.size(); i++) {
            JSONObject subscription = subscriptions.getJSONObject(i);
            if ("SQL92".equals(subscription.getString("type"))) {
                consumer.subscribe(subscription.getString("topic"),
                    MessageSelector.bySql(subscription.getString("expression")));
            } else {
                consumer.subscribe(subscription.getString("topic"), subscription.getString("expression"));
            }
        }
        Listener listener = new Listener(request);
        if (request.getBooleanValue("orderly")) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> listener.takes(messages)
                ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT);
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> listener.takes(messages)
                ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER);
        }
        consumer.start();
        Members.add(request, consumer, consumer::shutdown);
        return null;
    }

    private static final class Listener {
        private final String member;
        private final String group;
        private final int slowMs;
        /** Message key to how often it is still refused. */
        private final Map<String, AtomicInteger> refusals = new ConcurrentHashMap<>();

        Listener(JSONObject request) {
            member = request.getString("member");
            group = request.getString("group");
            slowMs = request.getIntValue("slowMs");
            JSONObject refuse = request.getJSONObject("refuse");
            if (refuse != null) {
                refuse.keySet().forEach(key -> refusals.put(key, new AtomicInteger(refuse.getIntValue(key))));
            }
        }

        boolean takes(List<MessageExt> messages) {
            boolean all = true;
            for (MessageExt message : messages) {
                all &= take(message);
            }
            return all;
        }

        private boolean take(MessageExt message) {
            String queue = group + "/" + message.getTopic() + "/" + message.getQueueId();
            AtomicInteger atWork = AT_WORK.computeIfAbsent(queue, any -> new AtomicInteger());
            boolean alone = atWork.incrementAndGet() == 1;
            AtomicInteger refusal = refusals.get(String.valueOf(message.getKeys()));
            boolean taken = refusal == null || refusal.getAndDecrement() <= 0;
            try {
                JSONObject json = Messages.toJson(message);
                json.put("alone", alone);
                json.put("taken", taken);
                observe(member, json);
                if (slowMs > 0) {
                    Thread.sleep(slowMs);
                }
            } catch (InterruptedException stopping) {
                Thread.currentThread().interrupt();
            } finally {
                atWork.decrementAndGet();
            }
            return taken;
        }
    }

    static void observe(String member, JSONObject message) {
        JSONObject line = new JSONObject();
        line.put("event", "received");
        line.put("member", member);
        line.put("message", message);
        Driver.print(line);
    }
}
