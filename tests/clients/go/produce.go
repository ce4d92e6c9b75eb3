package main

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// message is one message as the suite writes it; its body travels as hex.
type message struct {
	Topic      string            `json:"topic"`
	Body       string            `json:"body"`
	Tags       string            `json:"tags"`
	Keys       string            `json:"keys"`
	Flag       int32             `json:"flag"`
	Properties map[string]string `json:"properties"`
	Queue      *int              `json:"queue"`
	OrderKey   string            `json:"orderKey"`
}

// goProducer is a producer with the name server it was given, for the admin calls.
type goProducer struct {
	rocketmq.Producer
	namesrv []string
}

// byMessage sends to the queue the message names, else by its sharding key, else in turn.
type byMessage struct{ manual, hash, turn producer.QueueSelector }

func (s byMessage) Select(m *primitive.Message, queues []*primitive.MessageQueue, last string) *primitive.MessageQueue {
	switch {
	case m.Queue != nil:
		for _, queue := range queues {
			if queue.QueueId == m.Queue.QueueId {
				m.Queue.BrokerName = queue.BrokerName
			}
		}
		return s.manual.Select(m, queues, last)
	case m.GetShardingKey() != "":
		return s.hash.Select(m, queues, last)
	default:
		return s.turn.Select(m, queues, last)
	}
}

func startProducer(r *request) (any, error) {
	namesrv := []string{r.Namesrv}
	p, err := rocketmq.NewProducer(
		producer.WithNsResolver(primitive.NewPassthroughResolver(namesrv)),
		producer.WithGroupName(r.Group),
		producer.WithInstanceName(r.Member),
		producer.WithRetry(2),
		producer.WithSendMsgTimeout(15*time.Second),
		producer.WithQueueSelector(byMessage{
			producer.NewManualQueueSelector(), producer.NewHashQueueSelector(), producer.NewRoundRobinQueueSelector(),
		}),
	)
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	addMember(r, &goProducer{p, namesrv})
	return nil, nil
}

func (m *message) build() (*primitive.Message, error) {
	body, err := hex.DecodeString(m.Body)
	if err != nil {
		return nil, err
	}
	built := primitive.NewMessage(m.Topic, body)
	for name, value := range m.Properties {
		built.WithProperty(name, value)
	}
	if m.Tags != "" {
		built.WithTag(m.Tags)
	}
	if m.Keys != "" {
		built.WithKeys([]string{m.Keys})
	}
	if m.OrderKey != "" {
		built.WithShardingKey(m.OrderKey)
	}
	if m.Queue != nil {
		built.Queue = &primitive.MessageQueue{Topic: m.Topic, QueueId: *m.Queue}
	}
	built.Flag = m.Flag
	return built, nil
}

func sendResult(result *primitive.SendResult, err error) map[string]any {
	if err != nil {
		return map[string]any{"error": problem(err)}
	}
	status := "SEND_OK"
	if result.Status != primitive.SendOK {
		status = "SEND_" + time.Duration(result.Status).String()
	}
	return map[string]any{
		"status": status, "msgId": result.MsgID, "offsetMsgId": result.OffsetMsgID,
		"queue": result.MessageQueue.QueueId, "broker": result.MessageQueue.BrokerName, "offset": result.QueueOffset,
	}
}

func send(r *request) (any, error) {
	p, err := member[*goProducer](r)
	if err != nil {
		return nil, err
	}
	results := make([]map[string]any, len(r.Messages))
	var open sync.WaitGroup
	for i := range r.Messages {
		built, err := r.Messages[i].build()
		if err != nil {
			return nil, err
		}
		switch r.How {
		case "oneway":
			results[i] = map[string]any{}
			if err := p.SendOneWay(context.Background(), built); err != nil {
				results[i] = map[string]any{"error": problem(err)}
			}
		case "async":
			open.Add(1)
			err := p.SendAsync(context.Background(), func(_ context.Context, result *primitive.SendResult, err error) {
				results[i] = sendResult(result, err)
				open.Done()
			}, built)
			if err != nil {
				results[i] = map[string]any{"error": problem(err)}
				open.Done()
			}
		default:
			results[i] = sendResult(p.SendSync(context.Background(), built))
		}
	}
	open.Wait()
	return results, nil
}

func sendBatch(r *request) (any, error) {
	p, err := member[*goProducer](r)
	if err != nil {
		return nil, err
	}
	var batch []*primitive.Message
	for i := range r.Messages {
		built, err := r.Messages[i].build()
		if err != nil {
			return nil, err
		}
		batch = append(batch, built)
	}
	result, err := p.SendSync(context.Background(), batch...)
	if err != nil {
		return nil, err
	}
	return sendResult(result, nil), nil
}

func withAdmin[T any](r *request, call func(admin.Admin) (T, error)) (T, error) {
	var none T
	p, err := member[*goProducer](r)
	if err != nil {
		return none, err
	}
	a, err := admin.NewAdmin(admin.WithResolver(primitive.NewPassthroughResolver(p.namesrv)))
	if err != nil {
		return none, err
	}
	defer a.Close()
	return call(a)
}

func createTopic(r *request) (any, error) {
	return withAdmin(r, func(a admin.Admin) (any, error) {
		return nil, a.CreateTopic(context.Background(), admin.WithTopicCreate(r.Topic), admin.WithBrokerAddrCreate(r.Broker),
			admin.WithReadQueueNums(r.Queues), admin.WithWriteQueueNums(r.Queues))
	})
}

func topicQueues(r *request) (any, error) {
	return withAdmin(r, func(a admin.Admin) (any, error) {
		queues, err := a.FetchPublishMessageQueues(context.Background(), r.Topic)
		ids := []int{}
		for _, queue := range queues {
			ids = append(ids, queue.QueueId)
		}
		return ids, err
	})
}
