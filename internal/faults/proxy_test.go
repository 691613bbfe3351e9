package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// step is a statement of a disclosure, as it goes over the wire.
type step string

const (
	lockHead     step = "lock_head"
	recordAlone  step = "record, a transaction of its own"
	recordLocked step = "record, under the lock"
	commit       step = "COMMIT"
	take         step = "take"
	takeMessages step = "take_messages"
)

// stepOf tells which step a statement is. Both ways to record are the same statement: the transaction around it tells.
func stepOf(sql string) step {
	for _, s := range []struct {
		begin string
		step  step
	}{{"access.lock_head(", lockHead}, {"access.record(", recordAlone}, {"access.take(", take}, {"access.take_messages(", takeMessages}} {
		if strings.Contains(sql, s.begin) {
			return s.step
		}
	}
	if sql == "commit" {
		return commit
	}
	return ""
}

// cut is how a connection is lost around a statement.
type cut string

const (
	lost    cut = "lost"    // the statement never reaches the server
	landed  cut = "landed"  // the server has answered, the answer is dropped
	unknown cut = "unknown" // the statement is sent and the connection closed at once, whatever the server makes of it
)

// trap cuts connections at one step, each time the dice say so.
type trap struct {
	step step
	cut  cut
	cuts atomic.Int64
}

// proxy stands between a pool and PostgreSQL. It reads along just enough to know which statement is asked for.
type proxy struct {
	server   string // path of PostgreSQL's socket
	dir      string // of its own socket
	listener net.Listener
	trap     atomic.Pointer[trap]

	mu    sync.Mutex
	conns map[*link]bool // nil at the end
	done  sync.WaitGroup
}

// startProxy listens beside PostgreSQL, whose connection string url is, and gives the one to use instead.
func startProxy(t *testing.T, url string) (*proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	must(t, err)
	const socket = ".s.PGSQL.5432"
	dir, err := os.MkdirTemp("", "cf-proxy-") // t.TempDir may be too long for a socket
	must(t, err)
	p := &proxy{server: filepath.Join(config.Host, socket), dir: dir, conns: make(map[*link]bool)}
	p.listener, err = net.Listen("unix", filepath.Join(dir, socket))
	must(t, err)
	p.done.Go(p.accept)
	t.Cleanup(func() {
		must(t, p.listener.Close())
		p.mu.Lock()
		open := p.conns
		p.conns = nil
		p.mu.Unlock()
		for l := range open {
			l.cut()
		}
		p.done.Wait()
		must(t, os.RemoveAll(dir))
	})
	return p, strings.Replace(url, "host="+escaped(config.Host), "host="+escaped(dir), 1)
}

func escaped(path string) string { return strings.ReplaceAll(path, "/", "%2F") }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", p.server)
		if err != nil { // PostgreSQL is down
			client.Close() //nolint:errcheck // nothing was written
			continue
		}
		l := &link{proxy: p, client: client, server: server, steps: make(map[string]step)}
		p.mu.Lock()
		if p.conns == nil {
			l.cut()
		} else {
			p.conns[l] = true
			p.done.Go(l.carry)
		}
		p.mu.Unlock()
	}
}

// link is one connection through the proxy.
type link struct {
	proxy          *proxy
	client, server net.Conn
	steps          map[string]step // of prepared statements, by name; of the goroutine that reads requests
	status         atomic.Int32    // of the transaction, as the server said last
	dropping       atomic.Bool     // no answer reaches the client any more
}

// cut closes both ends; what was written to the server before still arrives there.
func (l *link) cut() {
	l.client.Close() //nolint:errcheck // the other end sees it
	l.server.Close() //nolint:errcheck // likewise
}

func (l *link) carry() {
	var both sync.WaitGroup
	both.Go(func() { defer l.cut(); _ = l.requests() }) // how a connection ends is all the same here
	both.Go(func() { defer l.cut(); _ = l.answers() })
	both.Wait()
	l.proxy.mu.Lock()
	delete(l.proxy.conns, l)
	l.proxy.mu.Unlock()
}

// requests carries what the client says, message by message.
func (l *link) requests() error {
	in, out := bufio.NewReaderSize(l.client, 1<<16), bufio.NewWriterSize(l.server, 1<<16)
	// The first message has no type.
	if err := message(in, out, 0, nil); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	thenCut := false
	for {
		kind, err := in.ReadByte()
		if err != nil {
			return err
		}
		c := cut("")
		err = message(in, out, kind, func(body []byte) bool {
			switch kind {
			case 'P': // Parse: name, statement
				name, rest, _ := bytes.Cut(body, []byte{0})
				sql, _, _ := bytes.Cut(rest, []byte{0})
				l.steps[string(name)] = stepOf(string(sql))
			case 'B': // Bind: portal, name
				_, rest, _ := bytes.Cut(body, []byte{0})
				name, _, _ := bytes.Cut(rest, []byte{0})
				c = l.caught(l.steps[string(name)])
			}
			return c != lost
		})
		if err != nil {
			return err
		}
		switch c {
		case lost:
			return out.Flush() // what came before it arrives
		case landed:
			l.dropping.Store(true)
		case unknown:
			thenCut = true
		}
		if in.Buffered() == 0 || thenCut && kind == 'S' {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if thenCut && kind == 'S' { // Sync: all of it is on its way
			return nil
		}
	}
}

// caught reports whether a connection is cut at a step, and how.
func (l *link) caught(s step) cut {
	t := l.proxy.trap.Load()
	if s == recordAlone && l.status.Load() == 'T' {
		s = recordLocked
	}
	if t == nil || s == "" || s != t.step || rand.N(3) > 0 {
		return ""
	}
	t.cuts.Add(1)
	return t.cut
}

// answers carries what the server says. An answer that is dropped has come in whole, so what it is about is done.
func (l *link) answers() error {
	in, out := bufio.NewReaderSize(l.server, 1<<16), bufio.NewWriterSize(l.client, 1<<16)
	for {
		kind, err := in.ReadByte()
		if err != nil {
			return err
		}
		err = message(in, out, kind, func(body []byte) bool {
			if kind == 'Z' && len(body) == 1 { // ReadyForQuery
				l.status.Store(int32(body[0]))
			}
			return !l.dropping.Load()
		})
		if err != nil {
			return err
		}
		if l.dropping.Load() {
			if kind == 'Z' {
				return nil
			}
			continue
		}
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

// message carries one message of the given kind, 0 for the first of a connection, unless look says no.
func message(in *bufio.Reader, out *bufio.Writer, kind byte, look func(body []byte) bool) error {
	var head [5]byte
	head[0] = kind
	if _, err := io.ReadFull(in, head[1:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 64<<20 {
		return errors.New("this is not PostgreSQL's protocol")
	}
	body := make([]byte, n-4)
	if _, err := io.ReadFull(in, body); err != nil {
		return err
	}
	if look != nil && !look(body) {
		return nil
	}
	from := head[:]
	if kind == 0 {
		from = head[1:]
	}
	if _, err := out.Write(from); err != nil {
		return err
	}
	_, err := out.Write(body)
	return err
}
