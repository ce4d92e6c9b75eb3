'use strict';

const { Consumer } = require('ali-ons');
const httpclient = require('urllib');

const consumer = new Consumer({
  httpclient,
  nameSrv: process.env.NAMESRV_ADDR || '127.0.0.1:9876',
  consumerGroup: 'quickstart-consumer',
});

consumer.subscribe('quickstart', '*', async message => {
  console.log('received', message.msgId, message.body.toString());
});
consumer.on('error', error => console.error(error));
