// The quickstart's producer: ten messages.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"

	"github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func main() {
	address := cmp.Or(os.Getenv("NAMESRV_ADDR"), "127.0.0.1:9876")
	p, err := rocketmq.NewProducer(producer.WithNameServer([]string{address}), producer.WithGroupName("quickstart-producer"))
	if err != nil {
		panic(err)
	}
	if err = p.Start(); err != nil {
		panic(err)
	}
	for i := 0; i < 10; i++ {
		message := primitive.NewMessage("quickstart", []byte(fmt.Sprintf("hello-%d", i))).WithTag("tag1")
		result, err := p.SendSync(context.Background(), message)
		if err != nil {
			panic(err)
		}
		fmt.Println("sent", result.String())
	}
	if err = p.Shutdown(); err != nil {
		panic(err)
	}
}
