package driver;

import com.alibaba.fastjson.JSONObject;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.MQPullConsumer;
import org.apache.rocketmq.client.consumer.MQPullConsumerScheduleService;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Pull consumers: by hand, on a schedule, and the lite one where the client has it. */
final class Pulls {
    private Pulls() {
    }

    static void addTo(Map<String, Driver.Verb> verbs) {
        verbs.put("pull.start", Pulls::start);
        verbs.put("pull.queues", Pulls::queues);
        verbs.put("pull", Pulls::pull);
        verbs.put("schedule.start", Pulls::startSchedule);
        verbs.put("lite.start", Pulls::startLite);
    }

    private static Object start(JSONObject request) throws Exception {
        DefaultMQPullConsumer consumer = new DefaultMQPullConsumer(request.getString("group"));
        consumer.setNamesrvAddr(request.getString("namesrv"));
        consumer.setInstanceName(request.getString("member"));
        consumer.setBrokerSuspendMaxTimeMillis(3000);
        consumer.start();
        Members.add(request, consumer, consumer::shutdown);
        return null;
    }

    private static Object queues(JSONObject request) throws Exception {
        return Members.find(request, DefaultMQPullConsumer.class)
            .fetchSubscribeMessageQueues(request.getString("topic")).stream().map(MessageQueue::getQueueId).sorted().toList();
    }

    private static Object pull(JSONObject request) throws Exception {
        DefaultMQPullConsumer consumer = Members.find(request, DefaultMQPullConsumer.class);
        MessageQueue queue = queue(consumer.fetchSubscribeMessageQueues(request.getString("topic")), request);
        String expression = request.getString("expression");
        long offset = request.getLongValue("offset");
        int most = request.getIntValue("most");
        PullResult result = request.getBooleanValue("wait")
            ? consumer.pullBlockIfNotFound(queue, expression, offset, most)
            : consumer.pull(queue, expression, offset, most);
        JSONObject json = new JSONObject();
        json.put("status", result.getPullStatus().name());
        json.put("next", result.getNextBeginOffset());
        json.put("min", result.getMinOffset());
        json.put("max", result.getMaxOffset());
        List<MessageExt> found = result.getMsgFoundList();
        json.put("messages", found == null ? List.of() : Messages.toJson(found));
        return json;
    }

    static MessageQueue queue(Iterable<MessageQueue> queues, JSONObject request) {
        for (MessageQueue queue : queues) {
            if (queue.getQueueId() == request.getIntValue("queue")) {
                return queue;
            }
        }
        throw new IllegalArgumentException("the route has no queue " + request.getIntValue("queue"));
    }

    private static Object startSchedule(JSONObject request) throws Exception {
        String member = request.getString("member");
        MQPullConsumerScheduleService schedule = new MQPullConsumerScheduleService(request.getString("group"));
        DefaultMQPullConsumer settings = schedule.getDefaultMQPullConsumer();
        settings.setNamesrvAddr(request.getString("namesrv"));
        settings.setInstanceName(member);
        settings.setPersistConsumerOffsetInterval(1000);
        schedule.registerPullTaskCallback(request.getString("topic"), (queue, context) -> {
            MQPullConsumer consumer = context.getPullConsumer();
            try {
                long offset = consumer.fetchConsumeOffset(queue, false);
                PullResult result = consumer.pull(queue, "*", Math.max(offset, 0), 2);
                if (result.getPullStatus() == PullStatus.FOUND) {
                    result.getMsgFoundList().forEach(message -> Consumers.observe(member, Messages.toJson(message)));
                }
                consumer.updateConsumeOffset(queue, result.getNextBeginOffset());
                context.setPullNextDelayTimeMillis(100);
            } catch (Exception problem) {
                problem.printStackTrace();
            }
        });
        schedule.start();
        Members.add(request, schedule, schedule::shutdown);
        return null;
    }

    private static Object startLite(JSONObject request) throws Exception {
        Version.Lite lite = Version.startLite(request);
        String member = request.getString("member");
        Thread poller = new Thread(() -> {
            while (lite.running()) {
                List<MessageExt> messages = lite.poll(200);
                messages.forEach(message -> Consumers.observe(member, Messages.toJson(message)));
                if (!messages.isEmpty()) {
                    lite.commit();
                }
            }
        });
        poller.start();
        Members.add(request, lite, lite::shutdown);
        return null;
    }
}
