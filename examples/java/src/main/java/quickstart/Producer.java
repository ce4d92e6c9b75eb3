package quickstart;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;

public class Producer {
    public static void main(String[] args) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("quickstart-producer");
        producer.setNamesrvAddr(System.getenv().getOrDefault("NAMESRV_ADDR", "127.0.0.1:9876"));
        producer.start();
        try {
            for (int i = 0; i < 10; i++) {
                Message message = new Message("quickstart", "tag1", "key" + i, ("hello-" + i).getBytes());
                SendResult result = producer.send(message);
                System.out.println("sent " + result);
            }
        } finally {
            producer.shutdown();
        }
    }
}
