// The quickstart's consumer: prints what arrives until it is stopped.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
)

func main() {
	address := cmp.Or(os.Getenv("NAMESRV_ADDR"), "127.0.0.1:9876")
	c, err := rocketmq.NewPushConsumer(
		consumer.WithNameServer([]string{address}),
		consumer.WithGroupName("quickstart-consumer"),
	)
	if err != nil {
		panic(err)
	}
	err = c.Subscribe("quickstart", consumer.MessageSelector{},
		func(_ context.Context, messages ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
			for _, message := range messages {
				fmt.Println("received", message.MsgId, string(message.Body))
			}
			return consumer.ConsumeSuccess, nil
		})
	if err != nil {
		panic(err)
	}
	if err = c.Start(); err != nil {
		panic(err)
	}
	select {}
}
