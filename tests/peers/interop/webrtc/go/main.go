// A peer on pion, which does what it is told on its standard input.
//
// usage: peer offer|answer
//
// Each line is `ID VERB ARGUMENTS…`, and is answered with `ID ok WORDS…` or `ID error TEXT`, as in peer.rs.
// The verbs are those of peer.mjs. The signals are those of docs/wire-webrtc.md, in JSON.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/pion/logging"
	"github.com/pion/webrtc/v3"
)

// A queue without a bound: what comes one after the other, and is waited for.
type queue[T any] struct {
	mutex sync.Mutex
	items []T
	more  *sync.Cond
}

func newQueue[T any]() *queue[T] {
	q := &queue[T]{}
	q.more = sync.NewCond(&q.mutex)
	return q
}

func (q *queue[T]) put(item T) {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	q.items = append(q.items, item)
	q.more.Signal()
}

// The next one.
func (q *queue[T]) next() T {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	for len(q.items) == 0 {
		q.more.Wait()
	}
	item := q.items[0]
	q.items = q.items[1:]
	return item
}

// A data channel whose messages are taken when they are asked for.
type channel struct {
	*webrtc.DataChannel
	messages       *queue[[]byte]
	opened, closed chan struct{}
}

func watch(inner *webrtc.DataChannel) *channel {
	c := &channel{inner, newQueue[[]byte](), make(chan struct{}), make(chan struct{})}
	var opened, closed sync.Once
	inner.OnMessage(func(message webrtc.DataChannelMessage) { c.messages.put(message.Data) })
	inner.OnOpen(func() { opened.Do(func() { close(c.opened) }) })
	inner.OnClose(func() { closed.Do(func() { close(c.closed) }) })
	return c
}

// Takes the messages that carry the next so many bytes.
func (c *channel) take(bytes int, each func([]byte) error) error {
	for bytes > 0 {
		message := c.messages.next()
		bytes -= len(message)
		if err := each(message); err != nil {
			return err
		}
	}
	return nil
}

// A signal of docs/wire-webrtc.md.
type signal struct {
	Type          string  `json:"type"`
	SDP           string  `json:"sdp,omitempty"`
	Candidate     string  `json:"candidate,omitempty"`
	SDPMid        *string `json:"sdpMid,omitempty"`
	SDPMLineIndex *uint16 `json:"sdpMLineIndex,omitempty"`
}

type peer struct {
	connection *webrtc.PeerConnection
	ping       *channel
	signals    *queue[signal]
	accepted   *queue[*channel]
	echoed     *queue[int]
	creating   sync.Mutex
	mutex      sync.Mutex
	channels   map[uint16]*channel
}

func newPeer(offers bool) (*peer, error) {
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	logger := logging.NewDefaultLoggerFactory()
	// By itself it logs to the standard output.
	logger.Writer = os.Stderr
	settings.LoggerFactory = logger
	connection, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p := &peer{
		connection: connection,
		signals:    newQueue[signal](),
		accepted:   newQueue[*channel](),
		echoed:     newQueue[int](),
		channels:   map[uint16]*channel{},
	}
	connection.OnDataChannel(func(inner *webrtc.DataChannel) { p.accepted.put(watch(inner)) })
	connection.OnICECandidate(func(candidate *webrtc.ICECandidate) {
		if candidate == nil {
			p.signals.put(signal{Type: "end-of-candidates"})
			return
		}
		init := candidate.ToJSON()
		p.signals.put(signal{
			Type:          "candidate",
			Candidate:     init.Candidate,
			SDPMid:        init.SDPMid,
			SDPMLineIndex: init.SDPMLineIndex,
		})
	})
	pingID, echoID := uint16(1), uint16(2)
	if offers {
		pingID, echoID = 2, 1
	}
	if p.ping, err = p.negotiated("ping", pingID); err != nil {
		return nil, err
	}
	echo, err := p.negotiated("echo", echoID)
	if err != nil {
		return nil, err
	}
	echo.OnMessage(func(message webrtc.DataChannelMessage) {
		if echo.Send(message.Data) == nil {
			p.echoed.put(len(message.Data))
		}
	})
	return p, nil
}

func (p *peer) negotiated(label string, id uint16) (*channel, error) {
	yes := true
	inner, err := p.connection.CreateDataChannel(label, &webrtc.DataChannelInit{Negotiated: &yes, ID: &id})
	if err != nil {
		return nil, err
	}
	return watch(inner), nil
}

func (p *peer) describe(description webrtc.SessionDescription, err error) error {
	if err != nil {
		return err
	}
	// The candidates come when this is done, and the description goes before them.
	p.signals.put(signal{Type: description.Type.String(), SDP: description.SDP})
	return p.connection.SetLocalDescription(description)
}

func (p *peer) hear(text string) error {
	var heard signal
	if err := json.Unmarshal([]byte(text), &heard); err != nil {
		return err
	}
	switch heard.Type {
	case "offer":
		offer := webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: heard.SDP}
		if err := p.connection.SetRemoteDescription(offer); err != nil {
			return err
		}
		return p.describe(p.connection.CreateAnswer(nil))
	case "answer":
		answer := webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: heard.SDP}
		return p.connection.SetRemoteDescription(answer)
	case "candidate":
		return p.connection.AddICECandidate(webrtc.ICECandidateInit{
			Candidate:     heard.Candidate,
			SDPMid:        heard.SDPMid,
			SDPMLineIndex: heard.SDPMLineIndex,
		})
	case "end-of-candidates":
		return nil
	}
	return fmt.Errorf("a signal of type %q", heard.Type)
}

// Keeps a channel under its number.
func (p *peer) keep(c *channel) uint16 {
	<-c.opened
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.channels[*c.ID()] = c
	return *c.ID()
}

func (p *peer) do(verb string, words []string) (string, error) {
	switch verb {
	case "signals":
		text, err := json.Marshal(p.signals.next())
		return string(text), err
	case "signal":
		return "", p.hear(strings.Join(words, " "))
	case "ping":
		<-p.ping.opened
		sent := make([]byte, 64)
		if _, err := rand.Read(sent); err != nil {
			return "", err
		}
		if err := p.ping.Send(sent); err != nil {
			return "", err
		}
		return fmt.Sprintf("%x %x", sent, p.ping.messages.next()), nil
	case "echoed":
		return fmt.Sprint(p.echoed.next()), nil
	case "open":
		// Two that are created at the same time may get the same id.
		p.creating.Lock()
		inner, err := p.connection.CreateDataChannel(words[0], nil)
		p.creating.Unlock()
		if err != nil {
			return "", err
		}
		return fmt.Sprint(p.keep(watch(inner))), nil
	case "accept":
		c := p.accepted.next()
		return fmt.Sprint(p.keep(c), " ", c.Label()), nil
	case "end":
		return "", p.connection.Close()
	case "ended":
		<-p.ping.closed
		return "", nil
	}
	return p.onChannel(verb, words)
}

// The verbs about a channel, whose number is the first word.
func (p *peer) onChannel(verb string, words []string) (string, error) {
	numbers := make([]int, len(words))
	for i, word := range words {
		number, err := strconv.Atoi(word)
		if err != nil {
			return "", err
		}
		numbers[i] = number
	}
	if len(numbers) == 0 {
		return "", fmt.Errorf("no verb %s", verb)
	}
	p.mutex.Lock()
	c := p.channels[uint16(numbers[0])]
	p.mutex.Unlock()
	if c == nil {
		return "", fmt.Errorf("no channel %d", numbers[0])
	}
	switch {
	case verb == "echo" && len(numbers) == 2:
		return "", c.take(numbers[1], c.Send)
	case verb == "send" && len(numbers) == 3:
		hash := sha256.New()
		for i := 0; i < numbers[1]; i++ {
			message := make([]byte, numbers[2])
			if _, err := rand.Read(message); err != nil {
				return "", err
			}
			hash.Write(message)
			if err := c.Send(message); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%x", hash.Sum(nil)), nil
	case verb == "receive" && len(numbers) == 2:
		hash := sha256.New()
		err := c.take(numbers[1], func(message []byte) error {
			_, err := hash.Write(message)
			return err
		})
		return fmt.Sprintf("%x", hash.Sum(nil)), err
	case verb == "close":
		err := c.Close()
		<-c.closed
		return "", err
	case verb == "closed":
		<-c.closed
		return "", nil
	}
	return "", fmt.Errorf("no verb %s %v", verb, words)
}

var output sync.Mutex

func say(words ...interface{}) {
	output.Lock()
	defer output.Unlock()
	fmt.Println(words...)
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: peer offer|answer")
	}
	role := os.Args[1]
	p, err := newPeer(role == "offer")
	if err != nil {
		return err
	}
	say("0 ok", role)
	if role == "offer" {
		if err := p.describe(p.connection.CreateOffer(nil)); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		go func() {
			told, err := p.do(words[1], words[2:])
			if err != nil {
				say(words[0], "error", strings.ReplaceAll(err.Error(), "\n", " "))
				return
			}
			say(words[0], "ok", told)
		}()
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
