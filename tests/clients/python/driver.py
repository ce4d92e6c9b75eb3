"""The Python client (a binding of the C++ client) under remote control: one JSON request a line on standard input,
answers and observations one JSON line each on standard output. tests/clients/README.md lists the verbs; the
conformance suite is the only caller."""

import json
import os
import sys
import threading
import time

# The C++ client prints to the real standard output: our lines go to a copy of it, its own to standard error.
OUT = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)

from rocketmq.client import Message, MessageModel, Producer, PullConsumer, PushConsumer  # noqa: E402
from rocketmq.consts import MessageProperty  # noqa: E402
from rocketmq.ffi import dll  # noqa: E402

members = {}
out_lock = threading.Lock()
# Listeners at work per group and queue: shows two at once on one queue.
at_work = {}
at_work_lock = threading.Lock()


def print_line(line):
    with out_lock:
        OUT.write(json.dumps(line) + "\n")
        OUT.flush()


def problem(error):
    return {"kind": type(error).__name__, "message": str(error)}


def text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else value


def build(message):
    built = Message(message["topic"])
    built.set_body(bytes.fromhex(message["body"]))
    if message.get("tags"):
        built.set_tags(message["tags"])
    if message.get("keys"):
        built.set_keys(message["keys"])
    for name, value in message.get("properties", {}).items():
        built.set_property(name, value)
    return built


def to_json(message, names):
    """The binding gives properties one by one, so only those the suite asked for are looked up."""
    return {
        "topic": message.topic, "queue": message.queue_id, "offset": message.queue_offset,
        "msgId": text(message.get_property(MessageProperty.UNIQ_CLIENT_MESSAGE_ID_KEYIDX)) or message.id,
        "body": message.body.hex(), "tags": text(message.tags), "keys": text(message.keys),
        "properties": {name: text(message.get_property(name)) for name in names},
        "reconsume": message.reconsume_times, "bornTimestamp": message.born_timestamp,
        "storeTimestamp": message.store_timestamp,
    }


def send_result(result):
    return {"status": "SEND_OK" if result.status == 0 else result.status.name, "msgId": result.msg_id, "offset": result.offset}


def start_producer(request):
    producer = Producer(request["group"], timeout=15000, max_message_size=4 << 20)
    producer.set_namesrv_addr(request["namesrv"])
    dll.SetProducerInstanceName(producer._handle, request["member"].encode())
    producer.start()
    members[request["member"]] = producer


def send(request):
    producer = members[request["member"]]
    if request["how"] == "async":
        return send_async(producer, request["messages"])
    results = []
    for message in request["messages"]:
        try:
            if request["how"] == "oneway":
                producer.send_oneway(build(message))
                results.append({})
            elif "orderNumber" in message:
                results.append(send_result(producer.send_orderly(build(message), message["orderNumber"])))
            else:
                results.append(send_result(producer.send_sync(build(message))))
        except Exception as error:
            results.append({"error": problem(error)})
    return results


def send_async(producer, messages):
    results = [None] * len(messages)
    open_sends = threading.Semaphore(0)

    def finish(index, result):
        results[index] = result
        open_sends.release()

    built = [build(message) for message in messages]
    for index, message in enumerate(built):
        try:
            producer.send_async(
                message,
                lambda result, index=index: finish(index, send_result(result)),
                lambda error, index=index: finish(index, {"error": problem(error)}))
        except Exception as error:
            finish(index, {"error": problem(error)})
    for _ in messages:
        if not open_sends.acquire(timeout=20):
            raise TimeoutError("a callback never came")
    return results


def start_consumer(request):
    model = MessageModel.BROADCASTING if request.get("broadcast") else MessageModel.CLUSTERING
    consumer = PushConsumer(request["group"], orderly=bool(request.get("orderly")), message_model=model)
    consumer.set_namesrv_addr(request["namesrv"])
    consumer.set_instance_name(request["member"])
    consumer.set_thread_count(4)
    refusals = dict(request.get("refuse", {}))

    def listen(message):
        queue = (request["group"], message.topic, message.queue_id)
        with at_work_lock:
            at_work[queue] = at_work.get(queue, 0) + 1
            alone = at_work[queue] == 1
            key = text(message.keys)
            taken = refusals.get(key, 0) <= 0
            if not taken:
                refusals[key] -= 1
        seen = dict(to_json(message, request.get("properties", [])), alone=alone, taken=taken)
        print_line({"event": "received", "member": request["member"], "message": seen})
        time.sleep(request.get("slowMs", 0) / 1000)
        with at_work_lock:
            at_work[queue] -= 1
        if not taken:
            raise RuntimeError("refused as asked")

    for subscription in request["subscriptions"]:
        consumer.subscribe(subscription["topic"], listen, expression=subscription["expression"])
    consumer.start()
    members[request["member"]] = consumer


def start_pull(request):
    consumer = PullConsumer(request["group"])
    consumer.set_namesrv_addr(request["namesrv"])
    consumer.start()
    members[request["member"]] = consumer


def drain(request):
    """Everything the topic holds, as this client's own loop over its queues gives it."""
    consumer = members[request["member"]]
    return [to_json(message, []) for message in consumer.pull(request["topic"], expression=request["expression"])]


def stop(request):
    member = members.pop(request["member"], None)
    if member is not None:
        member.shutdown()


VERBS = {
    "producer.start": start_producer, "send": send, "consumer.start": start_consumer, "pull.start": start_pull,
    "pull.all": drain, "stop": stop,
}


def answer(request):
    try:
        if request["verb"] not in VERBS:
            raise KeyError("this client has no verb " + request["verb"])
        print_line({"id": request["id"], "ok": VERBS[request["verb"]](request) or {}})
    except Exception as error:
        print_line({"id": request["id"], "error": problem(error)})


for line in sys.stdin:
    threading.Thread(target=answer, args=(json.loads(line),), daemon=True).start()
OUT.flush()
os._exit(0)  # The suite has gone: so do the client's own threads.
