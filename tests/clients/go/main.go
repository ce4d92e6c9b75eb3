// The Go client under remote control: one JSON request a line on standard input, answers and observations one JSON
// line each on standard output. tests/clients/README.md lists the verbs; the conformance suite is the only caller.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

type request struct {
	ID            int64          `json:"id"`
	Verb          string         `json:"verb"`
	Member        string         `json:"member"`
	Namesrv       string         `json:"namesrv"`
	Group         string         `json:"group"`
	How           string         `json:"how"`
	Messages      []message      `json:"messages"`
	From          string         `json:"from"`
	Broadcast     bool           `json:"broadcast"`
	Orderly       bool           `json:"orderly"`
	Strategy      string         `json:"strategy"`
	SlowMs        int            `json:"slowMs"`
	Refuse        map[string]int `json:"refuse"`
	Subscriptions []subscription `json:"subscriptions"`
	Topic         string         `json:"topic"`
	Queue         int            `json:"queue"`
	Queues        int            `json:"queues"`
	Broker        string         `json:"broker"`
	Expression    string         `json:"expression"`
	Offset        int64          `json:"offset"`
	Most          int            `json:"most"`
}

type subscription struct {
	Topic      string `json:"topic"`
	Expression string `json:"expression"`
	Type       string `json:"type"`
}

// stoppable is anything that lives until the suite stops it.
type stoppable interface{ Shutdown() error }

var (
	out       = bufio.NewWriter(os.Stdout)
	outLock   sync.Mutex
	members   = map[string]stoppable{}
	membersMu sync.Mutex
	verbs     = map[string]func(*request) (any, error){
		"producer.start": startProducer,
		"send":           send,
		"send.batch":     sendBatch,
		"consumer.start": startConsumer,
		"pull.start":     startPull,
		"pull":           pull,
		"topic.create":   createTopic,
		"topic.queues":   topicQueues,
		"stop":           stop,
	}
)

func main() {
	rlog.SetLogLevel("error")
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // The suite has gone.
		}
		r := new(request)
		if err := json.Unmarshal(line, r); err != nil {
			fmt.Fprintln(os.Stderr, "not a request:", err)
			continue
		}
		go answer(r)
	}
}

func answer(r *request) {
	reply := map[string]any{"id": r.ID}
	verb, known := verbs[r.Verb]
	if !known {
		reply["error"] = problem(fmt.Errorf("this client has no verb %s", r.Verb))
	} else if ok, err := verb(r); err != nil {
		reply["error"] = problem(err)
	} else if ok == nil {
		reply["ok"] = map[string]any{}
	} else {
		reply["ok"] = ok
	}
	printLine(reply)
}

func problem(err error) map[string]any {
	return map[string]any{"kind": fmt.Sprintf("%T", err), "message": err.Error()}
}

func printLine(line any) {
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	outLock.Lock()
	defer outLock.Unlock()
	out.Write(text)
	out.WriteByte('\n')
	out.Flush()
}

func addMember(r *request, member stoppable) {
	membersMu.Lock()
	defer membersMu.Unlock()
	members[r.Member] = member
}

func member[T any](r *request) (T, error) {
	membersMu.Lock()
	defer membersMu.Unlock()
	found, ok := members[r.Member].(T)
	if !ok {
		return found, fmt.Errorf("no such member: %s", r.Member)
	}
	return found, nil
}

func stop(r *request) (any, error) {
	found, err := member[stoppable](r)
	if err != nil {
		return nil, nil
	}
	membersMu.Lock()
	delete(members, r.Member)
	membersMu.Unlock()
	return nil, found.Shutdown()
}
