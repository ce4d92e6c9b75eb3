package driver;

import com.alibaba.fastjson.JSONObject;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageClientExt;
import org.apache.rocketmq.common.message.MessageExt;

/** Messages and send results to and from the suite's JSON. Bodies travel as hex. */
final class Messages {
    private Messages() {
    }

    static Message fromJson(JSONObject json) {
        Message message = new Message(json.getString("topic"), HexFormat.of().parseHex(json.getString("body")));
        if (json.containsKey("tags")) {
            message.setTags(json.getString("tags"));
        }
        if (json.containsKey("keys")) {
            message.setKeys(json.getString("keys"));
        }
        if (json.containsKey("flag")) {
            message.setFlag(json.getIntValue("flag"));
        }
        if (json.containsKey("properties")) {
            for (Map.Entry<String, Object> property : json.getJSONObject("properties").entrySet()) {
                message.putUserProperty(property.getKey(), String.valueOf(property.getValue()));
            }
        }
        return message;
    }

    static JSONObject toJson(MessageExt message) {
        JSONObject json = new JSONObject();
        json.put("topic", message.getTopic());
        json.put("queue", message.getQueueId());
        json.put("offset", message.getQueueOffset());
        json.put("msgId", message.getMsgId());
        if (message instanceof MessageClientExt) {
            json.put("offsetMsgId", ((MessageClientExt) message).getOffsetMsgId());
        }
        json.put("body", HexFormat.of().formatHex(message.getBody()));
        json.put("tags", message.getTags());
        json.put("keys", message.getKeys());
        json.put("flag", message.getFlag());
        json.put("properties", message.getProperties());
        json.put("reconsume", message.getReconsumeTimes());
        json.put("bornTimestamp", message.getBornTimestamp());
        json.put("storeTimestamp", message.getStoreTimestamp());
        json.put("sysFlag", message.getSysFlag());
        return json;
    }

    static List<JSONObject> toJson(List<MessageExt> messages) {
        return messages.stream().map(Messages::toJson).toList();
    }

    static JSONObject toJson(SendResult result) {
        JSONObject json = new JSONObject();
        json.put("status", result.getSendStatus().name());
        json.put("msgId", result.getMsgId());
        json.put("offsetMsgId", result.getOffsetMsgId());
        json.put("queue", result.getMessageQueue().getQueueId());
        json.put("broker", result.getMessageQueue().getBrokerName());
        json.put("offset", result.getQueueOffset());
        return json;
    }
}
