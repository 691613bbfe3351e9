// Package bus tells every node that a conversation moved. A hint carries ids only and may be lost: losing every hint
// costs latency, never a message. The client is always NATS; its server runs in this process unless one is named.
package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"counterfoil/internal/chat"
)

const (
	subjectMoved  = "counterfoil.moved"
	subjectTyping = "counterfoil.typing"
)

// Bus is safe for concurrent use.
type Bus struct {
	conn   *nats.Conn
	server *server.Server
}

// Start connects to url by way, or starts a server in this process that listens nowhere when url is empty. Servers of a cluster that the
// url does not name are not used: nobody registered them.
func Start(url string, way nats.CustomDialer, logger *slog.Logger) (*Bus, error) {
	if url != "" && way == nil {
		return nil, errors.New("no way leads to the hint server")
	}
	b := &Bus{}
	options := []nats.Option{
		nats.Name("counterfoil"), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.SetCustomDialer(way), nats.SkipHostLookup(), nats.IgnoreDiscoveredServers(),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				logger.Warn("hints between nodes are interrupted; messages go on, a little later", "error", err)
			}
		}),
	}
	if url == "" {
		srv, err := server.NewServer(&server.Options{ServerName: "counterfoil", DontListen: true, NoSigs: true, NoLog: true})
		if err != nil {
			return nil, fmt.Errorf("make hint server: %w", err)
		}
		srv.Start()
		if !srv.ReadyForConnections(5 * time.Second) {
			srv.Shutdown()
			return nil, errors.New("the hint server in this process did not start within 5 s")
		}
		b.server = srv
		options = append(options, nats.InProcessServer(srv))
	}
	conn, err := nats.Connect(url, options...)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to the hint server: %w", err)
	}
	b.conn = conn
	return b, nil
}

// Close ends the connection and the server of this process.
func (b *Bus) Close() {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}

// Moved says that a conversation has a new event.
func (b *Bus) Moved(conversation uuid.UUID) { _ = b.conn.Publish(subjectMoved, conversation[:]) }

// Typing says that a party is typing.
func (b *Bus) Typing(organisation, conversation uuid.UUID, by chat.Party) {
	_ = b.conn.Publish(subjectTyping+"."+string(by), append(organisation[:], conversation[:]...))
}

// OnMoved calls f for every hint, from one goroutine.
func (b *Bus) OnMoved(f func(conversation uuid.UUID)) error {
	_, err := b.conn.Subscribe(subjectMoved, func(m *nats.Msg) {
		if id, err := uuid.FromBytes(m.Data); err == nil {
			f(id)
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to hints: %w", err)
	}
	return nil
}

// OnTyping calls f for every typing hint, from one goroutine.
func (b *Bus) OnTyping(f func(organisation, conversation uuid.UUID, by chat.Party)) error {
	_, err := b.conn.Subscribe(subjectTyping+".*", func(m *nats.Msg) {
		if len(m.Data) == 2*16 {
			f(uuid.UUID(m.Data[:16]), uuid.UUID(m.Data[16:]), chat.Party(strings.TrimPrefix(m.Subject, subjectTyping+".")))
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to typing hints: %w", err)
	}
	return nil
}
