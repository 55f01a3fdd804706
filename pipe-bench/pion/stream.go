package main

import (
	"errors"
	"fmt"

	"github.com/pion/webrtc/v3"
)

// The largest message, in bytes.
const largest = 64 * 1024

// A data channel, read and written without callbacks. A message of text is its end.
type stream interface {
	ReadDataChannel([]byte) (int, bool, error)
	WriteDataChannel([]byte, bool) (int, error)
	BufferedAmount() uint64
	SetBufferedAmountLowThreshold(uint64)
	OnBufferedAmountLow(func())
}

func detach(channel *webrtc.DataChannel) (stream, error) {
	detached, err := channel.Detach()
	if err != nil {
		return nil, err
	}
	s, ok := detached.(stream)
	if !ok {
		return nil, errors.New("a detached channel says nothing of its queue")
	}
	return s, nil
}

func end(s stream) error {
	_, err := s.WriteDataChannel([]byte("end"), true)
	return err
}

// Takes so many bytes.
func take(s stream, bytes int) error {
	buffer := make([]byte, largest)
	for bytes > 0 {
		count, ended, err := s.ReadDataChannel(buffer)
		if err != nil {
			return err
		}
		if ended || count > bytes {
			return fmt.Errorf("%d bytes are left, and a message of %d has come", bytes, count)
		}
		bytes -= count
	}
	return nil
}

// Writes to a stream, and waits while more than a queue of bytes is on its way: pion takes all at once.
type writer struct {
	stream
	queue uint64
	low   chan struct{}
}

func newWriter(s stream, queue uint64) *writer {
	w := &writer{s, queue, make(chan struct{}, 1)}
	s.SetBufferedAmountLowThreshold(queue / 2)
	s.OnBufferedAmountLow(func() {
		select {
		case w.low <- struct{}{}:
		default:
		}
	})
	return w
}

func (w *writer) write(message []byte) error {
	for w.BufferedAmount() > w.queue {
		<-w.low
	}
	_, err := w.WriteDataChannel(message, false)
	return err
}
