package driver;

import com.alibaba.fastjson.JSONObject;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/** What client 5 spells otherwise than the earlier ones. */
final class Version {
    private Version() {
    }

    static void setModel(DefaultMQPushConsumer consumer, boolean broadcast) {
        consumer.setMessageModel(broadcast ? MessageModel.BROADCASTING : MessageModel.CLUSTERING);
    }

    static void createTopic(DefaultMQProducer producer, String key, String topic, int queues) throws MQClientException {
        producer.createTopic(key, topic, queues, Map.of());
    }

    /** The lite pull consumer, in subscribe mode, committing by hand. */
    static final class Lite {
        private final DefaultLitePullConsumer consumer;

        Lite(DefaultLitePullConsumer consumer) {
            this.consumer = consumer;
        }

        boolean running() {
            return consumer.isRunning();
        }

        List<MessageExt> poll(long timeoutMs) {
            return consumer.poll(timeoutMs);
        }

        void commit() {
            consumer.commitSync();
        }

        void shutdown() {
            consumer.shutdown();
        }
    }

    static Lite startLite(JSONObject request) throws Exception {
        DefaultLitePullConsumer consumer = new DefaultLitePullConsumer(request.getString("group"));
        consumer.setNamesrvAddr(request.getString("namesrv"));
        consumer.setInstanceName(request.getString("member"));
        consumer.setAutoCommit(false);
        consumer.setPersistConsumerOffsetInterval(1000);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(request.getString("topic"), "*");
        consumer.start();
        return new Lite(consumer);
    }
}
