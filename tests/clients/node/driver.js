'use strict';

// The Node client under remote control: one JSON request a line on standard input, answers and observations one JSON
// line each on standard output. tests/clients/README.md lists the verbs; the conformance suite is the only caller.

const httpclient = require('urllib');
const readline = require('readline');
const { Consumer, Message, Producer } = require('ali-ons');
const AllocateAveragely = require('ali-ons/lib/consumer/rebalance/allocate_message_queue_averagely');

const members = new Map();
/** Listeners at work per group and queue: shows two at once on one queue. */
const atWork = new Map();
const quiet = { info() {}, debug() {}, warn() {}, error(...what) { console.error(...what); } };

function print(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

function problem(error) {
  return { kind: error.name, message: error.message, code: error.code };
}

/** What every member is made with. */
function settings(request) {
  return {
    nameSrv: request.namesrv,
    httpclient,
    instanceName: request.member,
    logger: quiet,
  };
}

function build(json) {
  const message = new Message(json.topic, json.tags || '', Buffer.from(json.body, 'hex'));
  Object.assign(message.properties, json.properties);
  if (json.keys) message.keys = [ json.keys ];
  if (json.orderKey) message.shardingKey = json.orderKey;
  if (json.flag) message.flag = json.flag;
  return message;
}

function toJson(message) {
  return {
    topic: message.topic, queue: message.queueId, offset: Number(message.queueOffset), msgId: message.msgId,
    body: message.body.toString('hex'), tags: message.tags, keys: message.keys, flag: message.flag,
    properties: message.properties, reconsume: message.reconsumeTimes, bornTimestamp: Number(message.bornTimestamp),
    storeTimestamp: Number(message.storeTimestamp),
  };
}

async function sendOne(producer, json) {
  try {
    const result = await producer.send(build(json));
    return {
      status: result.sendStatus, msgId: result.msgId, queue: Number(result.messageQueue.queueId),
      broker: result.messageQueue.brokerName, offset: Number(result.queueOffset),
    };
  } catch (error) {
    return { error: problem(error) };
  }
}

function take(request, refusals, message) {
  const queue = `${request.group}/${message.topic}/${message.queueId}`;
  const alone = !atWork.get(queue);
  atWork.set(queue, (atWork.get(queue) || 0) + 1);
  const taken = !(refusals[message.keys] > 0);
  if (!taken) refusals[message.keys]--;
  print({ event: 'received', member: request.member, message: { ...toJson(message), alone, taken } });
  return { taken, done: () => atWork.set(queue, atWork.get(queue) - 1) };
}

const verbs = {
  async 'producer.start'(request) {
    const producer = new Producer({ ...settings(request), producerGroup: request.group, sendMsgTimeout: 15000 });
    producer.on('error', error => console.error(error));
    await producer.ready();
    members.set(request.member, producer);
  },

  async send(request) {
    const producer = members.get(request.member);
    if (request.how === 'async') {
      return await Promise.all(request.messages.map(json => sendOne(producer, json)));
    }
    const results = [];
    for (const json of request.messages) results.push(await sendOne(producer, json));
    return results;
  },

  async 'consumer.start'(request) {
    const consumer = new Consumer({
      ...settings(request),
      consumerGroup: request.group,
      isBroadcast: request.broadcast,
      consumeFromWhere: request.from === 'last' ? 'CONSUME_FROM_LAST_OFFSET' : 'CONSUME_FROM_FIRST_OFFSET',
      allocateMessageQueueStrategy: new AllocateAveragely(),
      persistConsumerOffsetInterval: 1000,
      rebalanceInterval: 1000, // This client does not listen to "your group has changed".
      pollNameServerInteval: 2000,
    });
    consumer.on('error', error => console.error(error));
    const refusals = { ...request.refuse };
    for (const subscription of request.subscriptions) {
      const what = subscription.type === 'SQL92'
        ? { expressionType: 'SQL92', subString: subscription.expression } : subscription.expression;
      consumer.subscribe(subscription.topic, what, async message => {
        const { taken, done } = take(request, refusals, message);
        if (request.slowMs) await new Promise(resolve => setTimeout(resolve, request.slowMs));
        done();
        return taken ? undefined : Consumer.ACTION_RETRY;
      });
    }
    await consumer.ready();
    members.set(request.member, consumer);
  },

  async stop(request) {
    const member = members.get(request.member);
    members.delete(request.member);
    if (member) await member.close();
  },
};

async function answer(request) {
  try {
    const verb = verbs[request.verb];
    if (!verb) throw new Error(`this client has no verb ${request.verb}`);
    print({ id: request.id, ok: (await verb(request)) || {} });
  } catch (error) {
    print({ id: request.id, error: problem(error) });
  }
}

// The client leaves promises unhandled when a server goes away; that must not end the others' scenarios.
process.on('unhandledRejection', error => console.error('unhandled:', error));
readline.createInterface({ input: process.stdin })
  .on('line', line => answer(JSON.parse(line)))
  .on('close', () => process.exit(0));
