// A peer made of hashicorp/yamux, which does what it is told on its standard input.
//
// usage: peer server|client=ADDR [backlog=N]
//
// The language is that of peer.rs: a line "ID VERB ARGUMENTS…" is answered with "ID ok WORDS…" or
// "ID error TEXT". Commands run side by side.
package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

type peer struct {
	session *yamux.Session

	mu       sync.Mutex
	streams  map[string]*yamux.Stream
	finished map[string]bool
}

var out sync.Mutex

func say(format string, args ...interface{}) {
	out.Lock()
	defer out.Unlock()
	fmt.Printf(format+"\n", args...)
}

func main() {
	config := yamux.DefaultConfig()
	role, addr := "", ""
	for _, arg := range os.Args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "server", "client":
			role, addr = name, value
		case "backlog":
			config.AcceptBacklog = atoi(value)
		}
	}

	var session *yamux.Session
	var err error
	if role == "server" {
		listener, listenErr := net.Listen("tcp", "127.0.0.1:0")
		must(listenErr)
		say("0 ok %s", listener.Addr())
		conn, acceptErr := listener.Accept()
		must(acceptErr)
		session, err = yamux.Server(conn, config)
	} else {
		conn, dialErr := net.Dial("tcp", addr)
		must(dialErr)
		say("0 ok %s", conn.LocalAddr())
		session, err = yamux.Client(conn, config)
	}
	must(err)

	p := &peer{session: session, streams: map[string]*yamux.Stream{}, finished: map[string]bool{}}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		go func() {
			answer, err := p.do(words[1], words[2:])
			if err != nil {
				say("%s error %s", words[0], err)
			} else {
				say("%s ok %s", words[0], answer)
			}
		}()
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func atoi(text string) int {
	number, err := strconv.Atoi(text)
	must(err)
	return number
}

func (p *peer) do(verb string, args []string) (string, error) {
	switch verb {
	case "open":
		stream, err := p.session.OpenStream()
		if err != nil {
			return "", err
		}
		return p.keep(stream), nil
	case "accept":
		stream, err := p.session.AcceptStream()
		if err != nil {
			return "", err
		}
		return p.keep(stream), nil
	case "write":
		return write(p.stream(args[0]), atoi(args[1]))
	case "read":
		return p.read(args[0], atoi(args[1]))
	case "finish":
		p.mu.Lock()
		p.finished[args[0]] = true
		p.mu.Unlock()
		return "", p.stream(args[0]).Close()
	case "echo":
		go p.echo()
		return "", nil
	case "ask":
		return "", p.ask(atoi(args[0]), atoi(args[1]))
	case "ping":
		took, err := p.session.Ping()
		return fmt.Sprint(took.Microseconds()), err
	case "streams":
		return fmt.Sprint(p.session.NumStreams()), nil
	case "goaway":
		return "", p.session.GoAway()
	case "close":
		return "", p.session.Close()
	case "ended":
		<-p.session.CloseChan()
		return "", nil
	}
	return "", errors.New("unknown verb " + verb)
}

func (p *peer) keep(stream *yamux.Stream) string {
	id := fmt.Sprint(stream.StreamID())
	p.mu.Lock()
	p.streams[id] = stream
	p.mu.Unlock()
	return id
}

func (p *peer) stream(id string) *yamux.Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.streams[id]
}

// write sends so many random bytes and tells their hash.
func write(stream *yamux.Stream, count int) (string, error) {
	bytes := make([]byte, count)
	if _, err := rand.Read(bytes); err != nil {
		return "", err
	}
	if _, err := stream.Write(bytes); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sha256.Sum256(bytes)), nil
}

// read takes at most so many bytes, fewer only where the stream ends, and tells how many, their hash,
// and how it went on: "more", "end" or "reset".
func (p *peer) read(id string, limit int) (string, error) {
	stream, hash, total, ending := p.stream(id), sha256.New(), 0, "more"
	buffer := make([]byte, 64*1024)
	for total < limit {
		want := len(buffer)
		if limit-total < want {
			want = limit - total
		}
		count, err := stream.Read(buffer[:want])
		hash.Write(buffer[:count])
		total += count
		if err == io.EOF && p.gapOfLocalEnd(id) {
			// This yamux tells an end where only its own direction has ended, and tells nobody when
			// more comes: asking again is all that is left.
			time.Sleep(time.Millisecond)
			continue
		}
		if err == io.EOF {
			ending = "end"
			break
		}
		if errors.Is(err, yamux.ErrConnectionReset) {
			ending = "reset"
			break
		}
		if err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d %x %s", total, hash.Sum(nil), ending), nil
}

// gapOfLocalEnd is whether the peer's direction of a stream that this side has ended is still open.
// It counts on the stream being the only one.
func (p *peer) gapOfLocalEnd(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.finished[id] && p.session.NumStreams() > 0
}

// echo sends back what comes on each stream of the other side.
func (p *peer) echo() {
	for {
		stream, err := p.session.AcceptStream()
		if err != nil {
			return
		}
		go func() {
			defer stream.Close()
			io.Copy(stream, stream)
		}()
	}
}

// ask opens so many streams one after the other, and expects on each what it has sent.
func (p *peer) ask(streams, size int) error {
	for i := 0; i < streams; i++ {
		stream, err := p.session.OpenStream()
		if err != nil {
			return err
		}
		sent := make([]byte, size)
		if _, err := rand.Read(sent); err != nil {
			return err
		}
		if _, err := stream.Write(sent); err != nil {
			return err
		}
		back := make([]byte, size)
		if _, err := io.ReadFull(stream, back); err != nil {
			return err
		}
		if sha256.Sum256(sent) != sha256.Sum256(back) {
			return fmt.Errorf("stream %d came back changed", i)
		}
		if err := stream.Close(); err != nil {
			return err
		}
	}
	return nil
}
