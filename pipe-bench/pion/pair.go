package main

import (
	"errors"
	"fmt"
	"math/rand"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"github.com/pion/ice/v2"
	"github.com/pion/logging"
	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
	"github.com/pion/webrtc/v3"
)

// The buffers of a socket, in bytes.
const socketBuffer = 4 << 20

var errFailed = errors.New("the connection has failed")

// Two peer connections that are connected, and the two ends of their first stream.
type pair struct {
	near, far           *webrtc.PeerConnection
	firstNear, firstFar stream
	accepted            chan stream
	failed              chan struct{}
	network             *network
	// Two streams that are opened at the same moment would get the same id.
	opening sync.Mutex
}

// The sockets of the system with larger buffers, which lose so many of a thousand datagrams.
type network struct {
	transport.Net
	loss atomic.Int32
}

type socket struct {
	transport.UDPConn
	network *network
}

func (n *network) ListenUDP(family string, addr *net.UDPAddr) (transport.UDPConn, error) {
	inner, err := n.Net.ListenUDP(family, addr)
	if err != nil {
		return nil, err
	}
	if err := inner.SetReadBuffer(socketBuffer); err != nil {
		return nil, err
	}
	if err := inner.SetWriteBuffer(socketBuffer); err != nil {
		return nil, err
	}
	return &socket{inner, n}, nil
}

func (s *socket) WriteTo(datagram []byte, addr net.Addr) (int, error) {
	if loss := s.network.loss.Load(); loss > 0 && rand.Int31n(1000) < loss {
		return len(datagram), nil
	}
	return s.UDPConn.WriteTo(datagram, addr)
}

func (n *network) peer() (*webrtc.PeerConnection, error) {
	var settings webrtc.SettingEngine
	settings.SetNet(n)
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.Equal(net.IPv4(127, 0, 0, 1)) })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetPrflxAcceptanceMinWait(0)
	settings.DetachDataChannels()
	logger := logging.NewDefaultLoggerFactory()
	// By itself it logs to the standard output.
	logger.Writer = os.Stderr
	settings.LoggerFactory = logger
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
}

// Connects, with a first stream that is in the offer.
func connect() (*pair, error) {
	inner, err := stdnet.NewNet()
	if err != nil {
		return nil, err
	}
	p := &pair{
		accepted: make(chan stream, 1024),
		failed:   make(chan struct{}),
		network:  &network{Net: inner},
	}
	if p.near, err = p.network.peer(); err != nil {
		return nil, err
	}
	if p.far, err = p.network.peer(); err != nil {
		p.close()
		return nil, err
	}
	if err := p.negotiate(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pair) negotiate() error {
	var once sync.Once
	for from, to := range map[*webrtc.PeerConnection]*webrtc.PeerConnection{p.near: p.far, p.far: p.near} {
		to := to
		from.OnICECandidate(func(candidate *webrtc.ICECandidate) {
			if candidate != nil {
				// Others may do.
				_ = to.AddICECandidate(candidate.ToJSON())
			}
		})
		from.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
			if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
				once.Do(func() { close(p.failed) })
			}
		})
	}
	p.far.OnDataChannel(func(channel *webrtc.DataChannel) {
		channel.OnOpen(func() {
			// One that cannot be used is missed by whoever waits for it.
			if far, err := detach(channel); err == nil {
				p.accepted <- far
			}
		})
	})
	first, err := p.near.CreateDataChannel("first", nil)
	if err != nil {
		return err
	}
	opened := make(chan stream, 1)
	first.OnOpen(func() {
		if near, err := detach(first); err == nil {
			opened <- near
		}
	})
	if err := p.describe(); err != nil {
		return err
	}
	select {
	case p.firstNear = <-opened:
	case <-p.failed:
		return errFailed
	}
	p.firstFar, err = p.accept()
	return err
}

// Exchanges the descriptions, so that candidates find one wherever they arrive.
func (p *pair) describe() error {
	offer, err := p.near.CreateOffer(nil)
	if err != nil {
		return err
	}
	if err := p.far.SetRemoteDescription(offer); err != nil {
		return err
	}
	if err := p.near.SetLocalDescription(offer); err != nil {
		return err
	}
	answer, err := p.far.CreateAnswer(nil)
	if err != nil {
		return err
	}
	if err := p.near.SetRemoteDescription(answer); err != nil {
		return err
	}
	return p.far.SetLocalDescription(answer)
}

func (p *pair) close() {
	for _, peer := range []*webrtc.PeerConnection{p.near, p.far} {
		if peer != nil {
			// Nothing of it is used any more.
			_ = peer.Close()
		}
	}
}

// From now on so many of a thousand datagrams are lost.
func (p *pair) lose(loss int) {
	p.network.loss.Store(int32(loss))
}

// The near end of a new stream.
func (p *pair) openNear() (stream, error) {
	p.opening.Lock()
	channel, err := p.near.CreateDataChannel("", nil)
	p.opening.Unlock()
	if err != nil {
		return nil, err
	}
	return detach(channel)
}

func (p *pair) accept() (stream, error) {
	select {
	case far := <-p.accepted:
		return far, nil
	case <-p.failed:
		return nil, errFailed
	}
}

// Both ends of a new stream.
func (p *pair) open() (near, far stream, err error) {
	if near, err = p.openNear(); err != nil {
		return nil, nil, err
	}
	far, err = p.accept()
	return near, far, err
}

// Sends a message to and fro on the first stream.
func (p *pair) roundTrips(times, length int) error {
	echoed := make(chan error, 1)
	go func() {
		buffer := make([]byte, largest)
		for i := 0; i < times; i++ {
			count, _, err := p.firstFar.ReadDataChannel(buffer)
			if err == nil {
				_, err = p.firstFar.WriteDataChannel(buffer[:count], false)
			}
			if err != nil {
				echoed <- err
				return
			}
		}
		echoed <- nil
	}()
	buffer := make([]byte, largest)
	for i := 0; i < times; i++ {
		if _, err := p.firstNear.WriteDataChannel(buffer[:length], false); err != nil {
			return err
		}
		count, _, err := p.firstNear.ReadDataChannel(buffer)
		if err != nil {
			return err
		}
		if count != length {
			return fmt.Errorf("%d bytes came back of %d", count, length)
		}
	}
	return <-echoed
}

// Opens a stream, sends a message over it and back, and ends it both ways.
func (p *pair) call() error {
	near, err := p.openNear()
	if err != nil {
		return err
	}
	buffer := make([]byte, largest)
	if _, err := near.WriteDataChannel(buffer[:call], false); err != nil {
		return err
	}
	if err := end(near); err != nil {
		return err
	}
	back := 0
	for {
		count, ended, err := near.ReadDataChannel(buffer)
		switch {
		case err != nil:
			return err
		case !ended:
			back += count
		case back != call:
			return fmt.Errorf("%d bytes came back of %d", back, call)
		default:
			return nil
		}
	}
}

// Sends back what comes, and the end.
func echoToTheEnd(far stream) error {
	buffer := make([]byte, largest)
	for {
		count, ended, err := far.ReadDataChannel(buffer)
		if err != nil {
			return err
		}
		if ended {
			return end(far)
		}
		if _, err := far.WriteDataChannel(buffer[:count], false); err != nil {
			return err
		}
	}
}
