package pglog

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// DecisionKey authenticates what the service asks the database to record (HMAC-SHA-256, RFC 2104). The database holds it
// where the service's role cannot read it, so the role's password alone records nothing and takes nothing.
type DecisionKey struct{ secret []byte }

// Format writes that a key is there and nothing of it.
func (k DecisionKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[decision key]") }

// ErrDecisionKey says that the key of this process is not the one installed in the database.
var ErrDecisionKey = errors.New("the decision key is not the one installed in the database")

// NewDecisionKey makes a key from 32 random bytes.
func NewDecisionKey(secret []byte) (DecisionKey, error) {
	if len(secret) != 32 {
		return DecisionKey{}, errors.New("a decision key has 32 bytes")
	}
	return DecisionKey{secret: append([]byte(nil), secret...)}, nil
}

const sqlInstallKey = `insert into access.decision_key (inner_pad, outer_pad) values ($1, $2)
	on conflict (the_only_one) do update set inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad`

// Install puts the key into the database, over a connection of a superuser. Processes with another key record nothing from
// then on.
func (k DecisionKey) Install(ctx context.Context, conn *pgx.Conn) error {
	var inner, outer [sha256.BlockSize]byte
	copy(inner[:], k.secret)
	copy(outer[:], k.secret)
	for i := range inner {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	if _, err := conn.Exec(ctx, sqlInstallKey, inner[:], outer[:]); err != nil {
		return fmt.Errorf("install the decision key: %w", err)
	}
	return nil
}

const sqlKeyInstalled = `select exists (select 1 from access.decision_key)`

// Installed reports whether the database has a decision key, over a connection of a superuser.
func Installed(ctx context.Context, conn *pgx.Conn) (bool, error) {
	var there bool
	if err := conn.QueryRow(ctx, sqlKeyInstalled).Scan(&there); err != nil {
		return false, fmt.Errorf("look for the decision key: %w", err)
	}
	return there, nil
}

const sqlCheckKey = "select access.check_decision_key($1, $2)"

// CheckDecisionKey fails with ErrDecisionKey when the database has another key, or none.
func (l *Log) CheckDecisionKey(ctx context.Context) error {
	challenge := make([]byte, 32)
	rand.Read(challenge)
	m := newMessage(checkLabel, 64)
	m.b = append(m.b, challenge...)
	var ok bool
	if err := l.pool.QueryRow(ctx, sqlCheckKey, challenge, l.decisions.mac(m)).Scan(&ok); err != nil {
		return fmt.Errorf("check the decision key: %w", err)
	}
	if !ok {
		return ErrDecisionKey
	}
	return nil
}

func (k DecisionKey) mac(m *message) []byte {
	h := hmac.New(sha256.New, k.secret)
	h.Write(m.b)
	return h.Sum(nil)
}

// What the MAC is for comes first, so that one cannot stand for another.
const (
	recordLabel = "counterfoil/record/1\n"
	checkLabel  = "counterfoil/check/1\n"
)

// message is what a MAC is over: the binary forms of the arguments, as the database's own send functions write them.
type message struct{ b []byte }

func newMessage(label string, room int) *message {
	return &message{append(make([]byte, 0, room), label...)}
}

func (m *message) uuid(id uuid.UUID) *message {
	m.b = append(m.b, id[:]...)
	return m
}

func (m *message) int8(v int64) *message {
	m.b = binary.BigEndian.AppendUint64(m.b, uint64(v))
	return m
}

// epoch is when PostgreSQL's time begins.
var epoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

func (m *message) time(t time.Time) *message { return m.int8(t.UnixMicro() - epoch.UnixMicro()) }

// array begins an array of n elements without nulls.
func (m *message) array(element uint32, n int) {
	dimensions := min(n, 1)
	for _, v := range []uint32{uint32(dimensions), 0, element} {
		m.b = binary.BigEndian.AppendUint32(m.b, v)
	}
	if n > 0 {
		m.b = binary.BigEndian.AppendUint32(m.b, uint32(n))
		m.b = binary.BigEndian.AppendUint32(m.b, 1) // the first index
	}
}

func (m *message) texts(all ...string) *message {
	m.array(pgtype.TextOID, len(all))
	for _, s := range all {
		m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(s)))
		m.b = append(m.b, s...)
	}
	return m
}

func (m *message) bytes(all ...[]byte) *message {
	m.array(pgtype.ByteaOID, len(all))
	for _, s := range all {
		m.b = binary.BigEndian.AppendUint32(m.b, uint32(len(s)))
		m.b = append(m.b, s...)
	}
	return m
}

func (m *message) int8s(all ...int64) *message {
	m.array(pgtype.Int8OID, len(all))
	for _, v := range all {
		m.b = binary.BigEndian.AppendUint32(m.b, 8)
		m.int8(v)
	}
	return m
}

func (m *message) int4s(all ...int32) *message {
	m.array(pgtype.Int4OID, len(all))
	for _, v := range all {
		m.b = binary.BigEndian.AppendUint32(m.b, 4)
		m.b = binary.BigEndian.AppendUint32(m.b, uint32(v))
	}
	return m
}

func (m *message) uuids(all ...pgtype.UUID) *message {
	m.array(pgtype.UUIDOID, len(all))
	for _, v := range all {
		m.b = binary.BigEndian.AppendUint32(m.b, 16)
		m.b = append(m.b, v.Bytes[:]...)
	}
	return m
}

const sqlTakeMessages = "select seq, kind, by_party, by_id, client_id, created_at, body, wrapped from access.take_messages($1, $2, $3, $4, $5)"

// Messages takes events of a conversation under the committed record of its grant: seq, kind, by_party, by_id, client_id,
// created_at, the sealed body and the wrapped key that opens it.
func (l *Log) Messages(ctx context.Context, organisation uuid.UUID, r Receipt, after int64, limit int) (pgx.Rows, error) {
	return l.pool.Query(ctx, sqlTakeMessages, organisation, int64(r.index), r.secret[:], after, limit)
}
