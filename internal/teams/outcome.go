package teams

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// Outcome is what became of a call, as far as one can know.
type Outcome uint8

// The outcomes. The zero value is Unknown: nothing is repeated because somebody forgot to say what happened.
const (
	// Unknown: Teams may or may not have done it. Repeating could double a message, so it is shown instead.
	Unknown Outcome = iota
	// Sent: Teams has it.
	Sent
	// Retry: Teams does not have it, or having it twice changes nothing; try again later.
	Retry
	// Failed: Teams refused, and will refuse again.
	Failed
)

// String names the outcome.
func (o Outcome) String() string {
	switch o {
	case Sent:
		return "sent"
	case Retry:
		return "retry"
	case Failed:
		return "failed"
	default:
		return "unknown"
	}
}

// CallError is a call to the Connector that did not succeed. It holds no text of the answer but its error code.
type CallError struct {
	// Op is the method of Client.
	Op string
	// Status is the HTTP status, 0 if there was no answer.
	Status int
	// Code is the Connector's error code ("MessageWritesBlocked"), or empty.
	Code string

	outcome Outcome
	after   time.Duration
	cause   error
}

// Error names the call and the status or cause.
func (e *CallError) Error() string {
	switch {
	case e.Status != 0 && e.Code != "":
		return fmt.Sprintf("teams: %s: status %d %s", e.Op, e.Status, e.Code)
	case e.Status != 0 && e.cause == nil:
		return fmt.Sprintf("teams: %s: status %d", e.Op, e.Status)
	case e.Status != 0:
		return fmt.Sprintf("teams: %s: status %d: %v", e.Op, e.Status, e.cause)
	default:
		return fmt.Sprintf("teams: %s: %v", e.Op, e.cause)
	}
}

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.cause }

// OutcomeOf says what became of the call that returned err; no error is Sent.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Sent
	}
	if e, ok := errors.AsType[*CallError](err); ok {
		return e.outcome
	}
	return Unknown
}

// RetryAfter is how long Teams asked to wait; 0 if it did not say.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*CallError](err); ok {
		return e.after
	}
	return 0
}

// classify is the table of outcomes for an answer. Creating a message has no idempotency key and can succeed while
// answering 408 or 5xx, so only 429 and 412 are surely not done; a replacement or a read may always be repeated.
func classify(status int, repeatable bool) Outcome {
	switch {
	case status >= 200 && status < 300:
		return Sent
	case status == http.StatusTooManyRequests, status == http.StatusPreconditionFailed:
		return Retry
	case status >= 500, status == http.StatusRequestTimeout:
		if repeatable {
			return Retry
		}
		return Unknown
	default:
		return Failed
	}
}

// maxRetryAfter keeps an absurd answer from parking a conversation for days.
const maxRetryAfter = time.Hour

// parseRetryAfter reads RFC 9110 §10.2.3: seconds or a date.
func parseRetryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// dialFailed reports whether the connection was never made.
func dialFailed(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
