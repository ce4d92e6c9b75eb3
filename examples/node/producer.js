'use strict';

const { Message, Producer } = require('ali-ons');
const httpclient = require('urllib');

const producer = new Producer({
  httpclient,
  nameSrv: process.env.NAMESRV_ADDR || '127.0.0.1:9876',
  producerGroup: 'quickstart-producer',
});

(async () => {
  await producer.ready();
  for (let i = 0; i < 10; i++) {
    const result = await producer.send(new Message('quickstart', 'tag1', `hello-${i}`));
    console.log('sent', result.sendStatus, result.msgId);
  }
  process.exit(0);
})().catch(error => {
  console.error(error);
  process.exit(1);
});
