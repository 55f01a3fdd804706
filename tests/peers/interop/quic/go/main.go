// A peer on quic-go: plain QUIC streams, as it is told on its standard input.
//
// usage: peer server ALPN
//
//	peer client HOST:PORT ALPN
//
// Each line is `ID VERB ARGUMENTS…`, and is answered with `ID ok WORDS…` or `ID error TEXT`. The answer to
// 0 is the address: a server's carries the hash of its certificate.
package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lucas-clemente/quic-go"
)

var (
	output  sync.Mutex
	table   sync.Mutex
	streams = map[int64]quic.Stream{}
)

func say(id string, words ...interface{}) {
	output.Lock()
	defer output.Unlock()
	fmt.Println(append([]interface{}{id}, words...)...)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A certificate of its own, and its hash.
func certificate() (tls.Certificate, string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	must(err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, fmt.Sprintf("%x", sha256.Sum256(der))
}

func keep(stream quic.Stream) int64 {
	table.Lock()
	defer table.Unlock()
	number := int64(stream.StreamID())
	streams[number] = stream
	return number
}

func payload(number int64, count int) []byte {
	data := make([]byte, count)
	for i := range data {
		data[i] = byte((int64(i)*7 + number) % 251)
	}
	return data
}

func do(conn quic.Connection, verb string, words []string) (string, error) {
	ctx := context.Background()
	switch verb {
	case "open":
		stream, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(keep(stream)), nil
	case "accept":
		stream, err := conn.AcceptStream(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(keep(stream)), nil
	case "close":
		code, err := strconv.ParseUint(words[0], 10, 62)
		if err != nil {
			return "", err
		}
		return "", conn.CloseWithError(quic.ApplicationErrorCode(code), strings.Join(words[1:], " "))
	case "closed":
		_, err := conn.AcceptUniStream(ctx)
		var closed *quic.ApplicationError
		if errors.As(err, &closed) {
			return fmt.Sprint(uint64(closed.ErrorCode), " ", closed.ErrorMessage), nil
		}
		return "", err
	}
	number, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		return "", err
	}
	table.Lock()
	stream := streams[number]
	table.Unlock()
	if stream == nil {
		return "", fmt.Errorf("no stream %d", number)
	}
	switch verb {
	case "send":
		count, err := strconv.Atoi(words[1])
		if err != nil {
			return "", err
		}
		data := payload(number, count)
		_, err = stream.Write(data)
		return fmt.Sprintf("%x", sha256.Sum256(data)), err
	case "finish":
		return "", stream.Close()
	case "reset", "stop":
		code, err := strconv.ParseUint(words[1], 10, 62)
		if err != nil {
			return "", err
		}
		if verb == "reset" {
			stream.CancelWrite(quic.StreamErrorCode(code))
		} else {
			stream.CancelRead(quic.StreamErrorCode(code))
		}
		return "", nil
	case "stopped":
		<-stream.Context().Done()
		_, err := stream.Write([]byte{0})
		var stopped *quic.StreamError
		if errors.As(err, &stopped) {
			return fmt.Sprint(uint64(stopped.ErrorCode)), nil
		}
		return "", fmt.Errorf("a write gave %v", err)
	case "read":
		digest := sha256.New()
		count, err := io.Copy(digest, stream)
		ending := "end"
		var reset *quic.StreamError
		if errors.As(err, &reset) {
			ending = fmt.Sprint("reset ", uint64(reset.ErrorCode))
		} else if err != nil {
			return "", err
		}
		return fmt.Sprintf("%d %x %s", count, digest.Sum(nil), ending), nil
	}
	return "", fmt.Errorf("no verb %s", verb)
}

func main() {
	role, alpn := os.Args[1], os.Args[len(os.Args)-1]
	conns := make(chan quic.Connection, 1)
	if role == "server" {
		cert, hash := certificate()
		config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}}
		listener, err := quic.ListenAddr("127.0.0.1:0", config, nil)
		must(err)
		go func() {
			conn, err := listener.Accept(context.Background())
			must(err)
			conns <- conn
		}()
		say("0", "ok", fmt.Sprintf("%s?cert-sha256=%s", listener.Addr(), hash))
	} else {
		config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}}
		conn, err := quic.DialAddr(os.Args[2], config, nil)
		must(err)
		conns <- conn
		say("0", "ok", os.Args[2])
	}
	conn := <-conns
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		go func() {
			told, err := do(conn, words[1], words[2:])
			if err != nil {
				say(words[0], "error", err)
				return
			}
			say(words[0], "ok", told)
		}()
	}
}
