package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel/trace/noop"

	"counterfoil/audit"
	"counterfoil/audit/pglog"
	"counterfoil/internal/access"
	"counterfoil/internal/access/euii"
	"counterfoil/internal/access/keyring"
	"counterfoil/internal/pg"
	"counterfoil/internal/principal"
	"counterfoil/internal/relay/relaytest"
	"counterfoil/internal/store"
)

const (
	serviceRole = "counterfoil_service"
	// callersPerNode makes 64 on the two nodes.
	callersPerNode = 32
	poolSize       = 16
)

// place says where a node finds its database, its keys and what it discloses; a node that is a process of its own is told
// so through nodeEnv.
type place struct {
	Name          string
	URL           string
	Keys          string // directory of the key-encryption key
	Organisation  uuid.UUID
	Conversations []uuid.UUID
}

// node is one process of the service, as far as a disclosure goes.
type node struct {
	name    string
	pool    *pgxpool.Pool
	log     *pglog.Log
	gate    *access.Gate
	readers access.Readers
	store   *store.Store
}

// newNode makes a node as the program does.
func newNode(p place) (*node, error) {
	ctx := context.Background()
	pool, err := pg.Open(ctx, pg.Config{URL: p.URL, MaxConns: poolSize})
	if err != nil {
		return nil, err
	}
	return newNodeOver(ctx, p, pool)
}

func newNodeOver(ctx context.Context, p place, pool *pgxpool.Pool) (*node, error) {
	ring, err := keyring.LoadOrCreate(filepath.Join(p.Keys, "kek.json"))
	if err != nil {
		return nil, err
	}
	log, err := newLog(pool)
	if err != nil {
		return nil, err
	}
	engine, err := relaytest.Busy(ctx)
	if err != nil {
		return nil, err
	}
	n := &node{name: p.Name, pool: pool, log: log, store: store.New(pool)}
	n.gate = access.New(access.Config{Policy: engine, Log: n.log, Ring: ring, Pool: pool, Now: time.Now,
		Logger: slog.New(slog.DiscardHandler), Tracer: noop.NewTracerProvider(),
		Standing: func(context.Context, uuid.UUID, bool) error { return nil }, // nothing speaks of this log from outside
	})
	n.readers = n.gate.Readers()
	return n, nil
}

// newLog is the log as every node has it.
func newLog(pool *pgxpool.Pool) (*pglog.Log, error) {
	key, err := audit.NewKey([]byte(strings.Repeat("k", 32)))
	if err != nil {
		return nil, err
	}
	decisions, err := decisionKey("d")
	if err != nil {
		return nil, err
	}
	return pglog.New(pool, key, decisions), nil
}

func decisionKey(letter string) (pglog.DecisionKey, error) {
	return pglog.NewDecisionKey([]byte(strings.Repeat(letter, 32)))
}

// release is what one call gave, with what it takes to find the record of it.
type release struct {
	Node    string
	Request string
	Earlier []string // requests under whose record it may have been given as well: those of the same following
	Index   int64    // of the receipt; -1 for messages, whose readers keep it to themselves
	Wrong   bool     // what came out is not what is stored

	began, ended time.Time
}

// caller asks for the same things over and over.
type caller struct {
	node  *node
	name  string
	scene access.Scene
	asked int

	kept     *access.Following[euii.Visitor] // followed under one grant, until it is begun anew
	requests []string                        // made through kept
}

// callers gives the callers of a node, spread over its conversations. Each life of a node needs a name of its own.
func callers(ctx context.Context, n *node, p place) ([]*caller, error) {
	all := make([]*caller, callersPerNode)
	for i := range all {
		c, settings, err := n.store.Conversation(ctx, p.Organisation, p.Conversations[i%len(p.Conversations)])
		if err != nil {
			return nil, err
		}
		all[i] = &caller{node: n, name: fmt.Sprintf("%s.%d", n.name, i), scene: access.Scene{Conversation: c, Settings: settings}, asked: i}
	}
	return all, nil
}

// once makes one disclosure. Without an error it was released.
func (c *caller) once(ctx context.Context) (release, error) {
	c.asked++
	scene := c.scene
	scene.Request = fmt.Sprintf("%s.%d", c.name, c.asked)
	r := release{Node: c.node.name, Request: scene.Request, Index: -1, began: time.Now()}
	err := c.disclose(ctx, scene, &r)
	r.ended = time.Now()
	return r, err
}

// What the scenes of these tests hold.
const (
	agentName, visitorName, visitorEmail = "Alice Agent", "Vera Visitor", "vera@visitors.example"
	firstMessage                         = "hello, is anybody there?"
)

func (c *caller) disclose(ctx context.Context, s access.Scene, r *release) error {
	conversation := s.Conversation
	visitor := principal.NewVisitor(conversation.Organisation, conversation.Visitor)
	agent := principal.NewAgent(conversation.Organisation, conversation.Agent)
	channel := principal.NewChannel(conversation.Organisation, "19:channel@thread.tacv2")
	switch c.asked % 6 {
	case 0:
		d, err := c.node.readers.AgentToVisitor.Read(ctx, visitor, s, conversation.Agent, conversation.ID)
		return value(d, err, r, euii.AgentDisplayName, agentName)
	case 1:
		d, err := c.node.readers.VisitorToAgent.Read(ctx, agent, s, conversation.Visitor, conversation.ID)
		if err := value(d, err, r, euii.VisitorDisplayName, visitorName); err != nil {
			return err
		}
		return value(d, err, r, euii.VisitorEmail, visitorEmail)
	case 2:
		d, err := c.node.readers.JoinerToChannel.Read(ctx, channel, s, conversation.Agent, conversation.ID)
		return value(d, err, r, euii.AgentDisplayName, agentName)
	case 3:
		line, err := c.node.readers.FirstLineToChannel.Read(ctx, channel, s)
		r.Wrong = err == nil && euii.Reveal(line) != firstMessage || err != nil && euii.Present(line)
		return err
	case 4:
		m, err := c.node.readers.ConversationForAgent.Follow(agent).Read(ctx, s, 0, 10)
		return messages(m, err, r)
	default:
		if c.kept == nil || len(c.requests) == 8 {
			c.kept, c.requests = c.node.readers.ConversationForVisitor.Follow(visitor), nil
		}
		r.Earlier = c.requests
		c.requests = append(c.requests[:len(c.requests):len(c.requests)], s.Request)
		m, err := c.kept.Read(ctx, s, 0, 10)
		return messages(m, err, r)
	}
}

func value[A euii.Audience](d access.Disclosed[A], err error, r *release, f euii.Field, want string) error {
	if err != nil {
		r.Wrong = r.Wrong || d.Receipt().Valid() || euii.Present(d.Value(f))
		return err
	}
	r.Index = int64(d.Receipt().Index())
	r.Wrong = r.Wrong || !d.Receipt().Valid() || euii.Reveal(d.Value(f)) != want
	return nil
}

func messages[A euii.Audience](all []access.Message[A], err error, r *release) error {
	if err != nil {
		r.Wrong = len(all) > 0
		return err
	}
	// The visitor's first words, then that the agent joined.
	r.Wrong = len(all) != 2 || euii.Reveal(all[0].Text) != firstMessage || euii.Present(all[1].Text)
	return nil
}

// judge says what is wrong about an answer by itself, if anything.
func judge(r release, err error) string {
	switch {
	case r.Wrong && err != nil:
		return "something was released beside an error"
	case r.Wrong:
		return "what was released is not what is stored"
	case err != nil && (!errors.Is(err, access.ErrUnavailable) || errors.Is(err, access.ErrDenied)):
		return fmt.Sprintf("refused with the wrong error: %v", err)
	}
	return ""
}

// breath is how long a caller waits that was refused.
const breath = 10 * time.Millisecond

// nodeEnv makes this binary a node, which says on its standard output what it discloses.
const nodeEnv = "COUNTERFOIL_FAULTS_NODE"

// beNode discloses until it is killed. Each release is one line, written after the caller has it.
func beNode(spec string) error {
	var p place
	if err := json.Unmarshal([]byte(spec), &p); err != nil {
		return err
	}
	ctx := context.Background()
	n, err := newNode(p)
	if err != nil {
		return err
	}
	all, err := callers(ctx, n, p)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	for _, c := range all {
		go func() {
			for {
				r, err := c.once(ctx)
				if wrong := judge(r, err); wrong != "" {
					fmt.Fprintf(os.Stderr, "%s: %s\n", r.Request, wrong)
					os.Exit(1)
				}
				if err != nil {
					time.Sleep(breath)
					continue
				}
				line, err := json.Marshal(r)
				if err == nil {
					mu.Lock()
					_, err = os.Stdout.Write(append(line, '\n'))
					mu.Unlock()
				}
				if err != nil {
					os.Exit(1)
				}
			}
		}()
	}
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // whoever started it is gone
	return nil
}

// child is a node that is a process of its own.
type child struct {
	cmd      *exec.Cmd
	first    chan struct{} // closed at the first release
	done     chan struct{} // closed when all is read
	released []release     // valid after done
	stderr   strings.Builder
}

func startChild(p place) (*child, error) {
	spec, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self), first: make(chan struct{}), done: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), nodeEnv+"="+string(spec))
	c.cmd.Stderr = &c.stderr
	if _, err = c.cmd.StdinPipe(); err != nil { // held open for as long as we live
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(c.done)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadBytes('\n')
			var r release
			if err != nil || json.Unmarshal(line, &r) != nil { // what was cut off was not received
				return
			}
			c.released = append(c.released, r)
			if len(c.released) == 1 {
				close(c.first)
			}
		}
	}()
	return c, nil
}

// kill ends the process without a word to it and gives what it had released.
func (c *child) kill() ([]release, error) {
	_ = c.cmd.Process.Kill() // fails only if it has ended, which what it said shows
	<-c.done
	_ = c.cmd.Wait() // says that it was killed
	if c.stderr.Len() > 0 {
		return nil, fmt.Errorf("the process said: %s", c.stderr.String())
	}
	return c.released, nil
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
