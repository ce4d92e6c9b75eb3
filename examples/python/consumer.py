"""The quickstart's consumer: prints what arrives until it is stopped."""

import os
import sys
import time

from rocketmq.client import PushConsumer


def show(message):
    # One write a line: listeners run on several threads.
    sys.stdout.write("received %s %s\n" % (message.id, message.body.decode()))
    sys.stdout.flush()


consumer = PushConsumer("quickstart-consumer")
consumer.set_namesrv_addr(os.environ.get("NAMESRV_ADDR", "127.0.0.1:9876"))
consumer.subscribe("quickstart", show)
consumer.start()
while True:
    time.sleep(3600)
