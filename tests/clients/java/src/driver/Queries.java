package driver;

import com.alibaba.fastjson.JSONObject;
import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;

/** What a producer can ask and order: topics, queues, offsets, messages by key and by id. */
final class Queries {
    private Queries() {
    }

    static void addTo(Map<String, Driver.Verb> verbs) {
        verbs.put("topic.create", request -> {
            Version.createTopic(Members.find(request, DefaultMQProducer.class), request.getString("key"),
                request.getString("topic"), request.getIntValue("queues"));
            return null;
        });
        verbs.put("topic.queues", request -> Members.find(request, DefaultMQProducer.class)
            .fetchPublishMessageQueues(request.getString("topic")).stream().map(MessageQueue::getQueueId).sorted().toList());
        verbs.put("query.key", request -> Messages.toJson(Members.find(request, DefaultMQProducer.class)
            .queryMessage(request.getString("topic"), request.getString("key"), request.getIntValue("most"),
                request.getLongValue("begin"), request.getLongValue("end")).getMessageList()));
        verbs.put("view", request -> Messages.toJson(Members.find(request, DefaultMQProducer.class)
            .viewMessage(request.getString("topic"), request.getString("msgId"))));
        verbs.put("offsets", Queries::offsets);
        verbs.put("offset.at", Queries::offsetAt);
    }

    private static Object offsets(JSONObject request) throws Exception {
        DefaultMQProducer producer = Members.find(request, DefaultMQProducer.class);
        MessageQueue queue = Pulls.queue(producer.fetchPublishMessageQueues(request.getString("topic")), request);
        JSONObject json = new JSONObject();
        json.put("min", producer.minOffset(queue));
        json.put("max", producer.maxOffset(queue));
        json.put("earliest", producer.earliestMsgStoreTime(queue));
        return json;
    }

    private static Object offsetAt(JSONObject request) throws Exception {
        DefaultMQProducer producer = Members.find(request, DefaultMQProducer.class);
        MessageQueue queue = Pulls.queue(producer.fetchPublishMessageQueues(request.getString("topic")), request);
        return producer.searchOffset(queue, request.getLongValue("time"));
    }
}
