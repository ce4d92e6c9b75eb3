"""The quickstart's producer: ten messages."""

import os

from rocketmq.client import Message, Producer

producer = Producer("quickstart-producer")
producer.set_namesrv_addr(os.environ.get("NAMESRV_ADDR", "127.0.0.1:9876"))
producer.start()
for i in range(10):
    message = Message("quickstart")
    message.set_tags("tag1")
    message.set_keys("key%d" % i)
    message.set_body("hello-%d" % i)
    result = producer.send_sync(message)
    print("sent", result.status.name, result.msg_id)
producer.shutdown()
