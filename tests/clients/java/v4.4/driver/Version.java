package driver;

import com.alibaba.fastjson.JSONObject;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.protocol.heartbeat.MessageModel;

/** What client 4.4 spells otherwise than the later ones: it has no lite pull consumer. */
final class Version {
    private Version() {
    }

    static void setModel(DefaultMQPushConsumer consumer, boolean broadcast) {
        consumer.setMessageModel(broadcast ? MessageModel.BROADCASTING : MessageModel.CLUSTERING);
    }

    static void createTopic(DefaultMQProducer producer, String key, String topic, int queues) throws MQClientException {
        producer.createTopic(key, topic, queues);
    }

    interface Lite {
        boolean running();

        List<MessageExt> poll(long timeoutMs);

        void commit();

        void shutdown();
    }

    static Lite startLite(JSONObject request) {
        throw new UnsupportedOperationException("client 4.4 has no lite pull consumer");
    }
}
