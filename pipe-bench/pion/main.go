// What is measured of pion, between two peer connections of this process.
//
// Each line of the standard input is a request in JSON, with the name of what to measure and its numbers,
// and is answered with a line on the standard output: {"value":12.3} or {"error":"why not"}. See pion.rs.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"time"
)

// How long a small message is, in bytes, and one of a stream that is opened for it.
const (
	small = 64
	call  = 1024
)

// How much of a load has to be through before anything is measured beside it, in bytes.
const loadBefore = 8 << 20

type request struct {
	Measure string `json:"measure"`
	// How often, or how many streams altogether.
	Times int `json:"times"`
	// How many streams at once.
	Streams int `json:"streams"`
	// How many bytes altogether, and in a message.
	Bytes    int `json:"bytes"`
	WriteLen int `json:"write_len"`
	// So many of a thousand datagrams are lost.
	Loss int `json:"loss"`
	// How many bytes of a stream may be on their way.
	Queue uint64 `json:"queue"`
}

type answer struct {
	Value *float64 `json:"value,omitempty"`
	Error string   `json:"error,omitempty"`
}

// The median time to connect with a stream, and get a byte to and fro on it, in milliseconds.
func connectTime(asked request) (float64, error) {
	times := make([]float64, 0, asked.Times)
	for i := 0; i < asked.Times; i++ {
		start := time.Now()
		p, err := connect()
		if err != nil {
			return 0, err
		}
		err = p.roundTrips(1, 1)
		times = append(times, time.Since(start).Seconds()*1e3)
		p.close()
		if err != nil {
			return 0, err
		}
	}
	sort.Float64s(times)
	middle := len(times) / 2
	return (times[(len(times)-1)/2] + times[middle]) / 2, nil
}

// The mean time of a round trip of a small message, in microseconds.
func messages(asked request) (float64, error) {
	p, err := connect()
	if err != nil {
		return 0, err
	}
	defer p.close()
	if err := p.roundTrips(1, small); err != nil {
		return 0, err
	}
	start := time.Now()
	err = p.roundTrips(asked.Times, small)
	return time.Since(start).Seconds() * 1e6 / float64(asked.Times), err
}

// The same while another stream carries as much as it can.
func loadedMessages(asked request) (float64, error) {
	p, err := connect()
	if err != nil {
		return 0, err
	}
	defer p.close()
	near, far, err := p.open()
	if err != nil {
		return 0, err
	}
	failed := make(chan error, 2)
	go func() {
		writer := newWriter(near, asked.Queue)
		block := make([]byte, asked.WriteLen)
		for {
			if err := writer.write(block); err != nil {
				failed <- err
				return
			}
		}
	}()
	started := make(chan struct{})
	go func() {
		if err := take(far, loadBefore); err != nil {
			failed <- err
			return
		}
		close(started)
		// It ends with the connection.
		failed <- take(far, 1<<62)
	}()
	select {
	case <-started:
	case err := <-failed:
		return 0, err
	}
	start := time.Now()
	if err := p.roundTrips(asked.Times, small); err != nil {
		return 0, err
	}
	took := time.Since(start)
	select {
	case err := <-failed:
		return 0, err
	default:
		return took.Seconds() * 1e6 / float64(asked.Times), nil
	}
}

// What streams carry together, in megabytes a second.
func transfer(asked request) (float64, error) {
	p, err := connect()
	if err != nil {
		return 0, err
	}
	defer p.close()
	streams := make([][2]stream, asked.Streams)
	for i := range streams {
		if streams[i][0], streams[i][1], err = p.open(); err != nil {
			return 0, err
		}
	}
	p.lose(asked.Loss)
	each := asked.Bytes / asked.Streams
	done := make(chan error, 2*len(streams))
	start := time.Now()
	for _, ends := range streams {
		near, far := ends[0], ends[1]
		go func() {
			writer := newWriter(near, asked.Queue)
			block := make([]byte, asked.WriteLen)
			for left := each; left > 0; left -= len(block) {
				if left < len(block) {
					block = block[:left]
				}
				if err := writer.write(block); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		go func() { done <- take(far, each) }()
	}
	for range streams {
		for i := 0; i < 2; i++ {
			if err := <-done; err != nil {
				return 0, err
			}
		}
	}
	return float64(each*asked.Streams) / time.Since(start).Seconds() / 1e6, nil
}

// How many streams are opened, used for a message each way, and ended both ways, in a second.
func calls(asked request) (float64, error) {
	p, err := connect()
	if err != nil {
		return 0, err
	}
	defer p.close()
	go func() {
		for {
			far, err := p.accept()
			if err != nil {
				return
			}
			// Its other end fails with it.
			go func() { _ = echoToTheEnd(far) }()
		}
	}()
	each := asked.Times / asked.Streams
	done := make(chan error, asked.Streams)
	start := time.Now()
	for i := 0; i < asked.Streams; i++ {
		go func() {
			for i := 0; i < each; i++ {
				if err := p.call(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for i := 0; i < asked.Streams; i++ {
		if err := <-done; err != nil {
			return 0, err
		}
	}
	return float64(each*asked.Streams) / time.Since(start).Seconds(), nil
}

func measure(line []byte) (float64, error) {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return 0, err
	}
	// A measure has no use for what it does not name.
	for _, number := range []*int{&asked.Times, &asked.Streams, &asked.WriteLen} {
		if *number < 1 {
			*number = 1
		}
	}
	switch asked.Measure {
	case "connect":
		return connectTime(asked)
	case "messages":
		return messages(asked)
	case "loaded_messages":
		return loadedMessages(asked)
	case "transfer":
		return transfer(asked)
	case "calls":
		return calls(asked)
	}
	return 0, fmt.Errorf("nothing is called %q", asked.Measure)
}

func run() error {
	lines := bufio.NewScanner(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var said answer
		if value, err := measure(lines.Bytes()); err != nil {
			said.Error = err.Error()
		} else {
			said.Value = &value
		}
		if err := output.Encode(said); err != nil {
			return err
		}
	}
	return lines.Err()
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
