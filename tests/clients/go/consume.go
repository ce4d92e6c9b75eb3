package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

// atWork counts listeners at work per group and queue, over all members of this process: shows two at once on one queue.
var atWork sync.Map

func toJSON(m *primitive.MessageExt) map[string]any {
	queue := -1
	if m.Queue != nil {
		queue = m.Queue.QueueId
	}
	return map[string]any{
		"topic": m.Topic, "queue": queue, "offset": m.QueueOffset, "msgId": m.MsgId, "offsetMsgId": m.OffsetMsgId,
		"body": hex.EncodeToString(m.Body), "tags": m.GetTags(), "keys": m.GetKeys(), "flag": m.Flag,
		"properties": m.GetProperties(), "reconsume": m.ReconsumeTimes, "bornTimestamp": m.BornTimestamp,
		"storeTimestamp": m.StoreTimestamp, "sysFlag": m.SysFlag,
	}
}

func selector(s subscription) consumer.MessageSelector {
	if s.Type == "SQL92" {
		return consumer.MessageSelector{Type: consumer.SQL92, Expression: s.Expression}
	}
	return consumer.MessageSelector{Type: consumer.TAG, Expression: s.Expression}
}

func startConsumer(r *request) (any, error) {
	options := []consumer.Option{
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.Namesrv})),
		consumer.WithGroupName(r.Group),
		consumer.WithInstance(r.Member),
		consumer.WithConsumerOrder(r.Orderly),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
		consumer.WithStrategy(consumer.AllocateByAveragely),
	}
	if r.From == "last" {
		options = append(options, consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset))
	}
	if r.Strategy == "circle" {
		options = append(options, consumer.WithStrategy(consumer.AllocateByAveragelyCircle))
	}
	if r.Broadcast {
		options = append(options, consumer.WithConsumerModel(consumer.BroadCasting))
	}
	c, err := rocketmq.NewPushConsumer(options...)
	if err != nil {
		return nil, err
	}
	var lock sync.Mutex
	refusals := r.Refuse
	take := func(m *primitive.MessageExt) bool {
		counter, _ := atWork.LoadOrStore(fmt.Sprint(r.Group, "/", m.Topic, "/", m.Queue.QueueId), new(atomic.Int32))
		alone := counter.(*atomic.Int32).Add(1) == 1
		defer counter.(*atomic.Int32).Add(-1)
		lock.Lock()
		taken := refusals[m.GetKeys()] <= 0
		if !taken {
			refusals[m.GetKeys()]--
		}
		lock.Unlock()
		seen := toJSON(m)
		seen["alone"], seen["taken"] = alone, taken
		printLine(map[string]any{"event": "received", "member": r.Member, "message": seen})
		time.Sleep(time.Duration(r.SlowMs) * time.Millisecond)
		return taken
	}
	listener := func(ctx context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
		all := true
		for _, m := range messages {
			all = take(m) && all
		}
		switch {
		case all:
			return consumer.ConsumeSuccess, nil
		case r.Orderly:
			// Left alone, this client tries again at once; the others wait this long.
			if orderly, ok := primitive.GetOrderlyCtx(ctx); ok {
				orderly.SuspendCurrentQueueTimeMillis = 1000
			}
			return consumer.SuspendCurrentQueueAMoment, nil
		default:
			return consumer.ConsumeRetryLater, nil
		}
	}
	for _, s := range r.Subscriptions {
		if err := c.Subscribe(s.Topic, selector(s), listener); err != nil {
			return nil, err
		}
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	addMember(r, c)
	return nil, nil
}

func startPull(r *request) (any, error) {
	c, err := rocketmq.NewPullConsumer(
		consumer.WithNsResolver(primitive.NewPassthroughResolver([]string{r.Namesrv})),
		consumer.WithGroupName(r.Group),
		consumer.WithInstance(r.Member),
	)
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(r.Topic, selector(subscription{Expression: r.Expression})); err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	addMember(r, c)
	return nil, nil
}

func pull(r *request) (any, error) {
	c, err := member[rocketmq.PullConsumer](r)
	if err != nil {
		return nil, err
	}
	queue := &primitive.MessageQueue{Topic: r.Topic, BrokerName: r.Broker, QueueId: r.Queue}
	result, err := c.PullFrom(context.Background(), queue, r.Offset, r.Most)
	if err != nil {
		return nil, err
	}
	statuses := map[primitive.PullStatus]string{
		primitive.PullFound: "FOUND", primitive.PullNoNewMsg: "NO_NEW_MSG", primitive.PullNoMsgMatched: "NO_MATCHED_MSG",
		primitive.PullOffsetIllegal: "OFFSET_ILLEGAL", primitive.PullBrokerTimeout: "BROKER_TIMEOUT",
	}
	found := []map[string]any{}
	for _, m := range result.GetMessageExts() {
		found = append(found, toJSON(m))
	}
	return map[string]any{
		"status": statuses[result.Status], "next": result.NextBeginOffset, "min": result.MinOffset, "max": result.MaxOffset,
		"messages": found,
	}, nil
}
