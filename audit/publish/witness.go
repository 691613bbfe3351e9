package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"counterfoil/audit"
)

// Witness is somebody else who remembers the newest checkpoint of each log and cosigns only what continues it
// (C2SP tlog-witness).
type Witness struct {
	url    string
	key    *audit.WitnessKey
	client *http.Client
	now    func() time.Time
}

// Name is that of the witness's key.
func (w *Witness) Name() string { return w.key.Name() }

// witnessTimeout bounds one request.
const witnessTimeout = 10 * time.Second

// ahead is how far a witness's clock may run before ours.
const ahead = 5 * time.Minute

// NewWitness makes the client of the witness at url, whose verifier key is vkey.
func NewWitness(url, vkey string, transport http.RoundTripper, now func() time.Time) (*Witness, error) {
	key, err := audit.ParseWitnessKey(vkey)
	if err != nil {
		return nil, err
	}
	client := &http.Client{
		Transport: transport, Timeout: witnessTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a witness does not redirect") },
	}
	return &Witness{strings.TrimSuffix(url, "/"), key, client, now}, nil
}

// ErrContradicted says that a witness remembers another history than ours.
var ErrContradicted = errors.New("the witness remembers another history")

// errNoAnswer says that a witness cannot be reached.
var errNoAnswer = errors.New("the witness does not answer")

// Cosign asks for a cosignature of the checkpoint signed of size records. old is the size that the witness is thought to
// remember; if it remembers another, it says so and is asked again. prove gives the consistency proof from a size. The
// error wraps ErrContradicted when the witness remembers what signed does not continue.
func (w *Witness) Cosign(ctx context.Context, old, size uint64, signed []byte, prove func(old uint64) ([]audit.Hash, error)) (at time.Time, cosigned []byte, err error) {
	for range 3 { // another node may have been there in between
		proof, err := prove(old)
		if err != nil {
			return time.Time{}, nil, fmt.Errorf("ask witness: %w", err)
		}
		status, answer, err := w.add(ctx, old, proof, signed)
		if err != nil {
			return time.Time{}, nil, fmt.Errorf("ask witness: %w", err)
		}
		switch status {
		case http.StatusOK:
			at, cosigned, err := w.key.Cosigned(signed, answer)
			if err == nil && at.After(w.now().Add(ahead)) {
				err = errors.New("its time lies in the future")
			}
			if err != nil {
				return time.Time{}, nil, fmt.Errorf("read witness's answer: %w", err)
			}
			return at, cosigned, nil
		case http.StatusConflict:
			known, err := strconv.ParseUint(strings.TrimSuffix(string(answer), "\n"), 10, 63)
			switch {
			case err == nil && known > size:
				return time.Time{}, nil, fmt.Errorf("%w: it has seen %d records, there are %d", ErrContradicted, known, size)
			case err == nil && known != old:
				old = known
			case old == size:
				return time.Time{}, nil, fmt.Errorf("%w: it has seen another root of %d records", ErrContradicted, size)
			default:
				return time.Time{}, nil, errors.New("ask witness: it refuses the size that it asks for")
			}
		case http.StatusUnprocessableEntity:
			return time.Time{}, nil, fmt.Errorf("%w: the %d records it has seen are not our first %d", ErrContradicted, old, old)
		case http.StatusNotFound, http.StatusForbidden:
			return time.Time{}, nil, fmt.Errorf("ask witness: it does not know this log or its key (status %d): give whoever runs it the log's key.pub", status)
		default:
			return time.Time{}, nil, fmt.Errorf("ask witness: status %d", status)
		}
	}
	return time.Time{}, nil, errors.New("ask witness: the size it remembers keeps changing")
}

// add sends one add-checkpoint request.
func (w *Witness) add(ctx context.Context, old uint64, proof []audit.Hash, signed []byte) (status int, answer []byte, err error) {
	var body bytes.Buffer
	if err := audit.WriteUpdate(&body, old, proof, signed); err != nil {
		return 0, nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url+"/add-checkpoint", &body)
	if err != nil {
		return 0, nil, err
	}
	resp, err := w.client.Do(r)
	if err == nil {
		defer resp.Body.Close()
		answer, err = io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	}
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return resp.StatusCode, answer, nil
}
