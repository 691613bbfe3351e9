// Package totp makes authenticators and checks their codes (RFC 6238). It promises that a code counts once, for one
// administrator, within the half minute it is made for, and that only it can make a Proof.
package totp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	lib "github.com/pquerna/otp/totp"
)

// ErrWrong says that a code is not the one of this moment, or was taken before.
var ErrWrong = errors.New("the code is not the present one, or was used before")

const (
	period   = 30 // seconds
	seedSize = 20 // bytes: 160 bits
)

var opts = hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1} // what every authenticator app can do

// Proof is evidence that an administrator gave a code. The zero Proof proves nothing.
type Proof struct {
	organisation, admin uuid.UUID
	step                int64
	at                  time.Time
}

// Organisation is that of the administrator.
func (p Proof) Organisation() uuid.UUID { return p.organisation }

// Admin is who gave the code.
func (p Proof) Admin() uuid.UUID { return p.admin }

// Step is the time step that was taken; 0 when the proof was recalled.
func (p Proof) Step() int64 { return p.step }

// At is when the code was given.
func (p Proof) At() time.Time { return p.at }

// Fresh is evidence that an administrator gave a second factor within his session, for one purpose. The zero Fresh proves
// nothing.
type Fresh struct {
	organisation, admin uuid.UUID
	method, purpose     string
	at                  time.Time
}

// Organisation is that of the administrator.
func (f Fresh) Organisation() uuid.UUID { return f.organisation }

// Admin is who gave it.
func (f Fresh) Admin() uuid.UUID { return f.admin }

// Method is what he gave: totp, or webauthn.
func (f Fresh) Method() string { return f.method }

// Purpose is what he gave it for; empty when nothing is proved.
func (f Fresh) Purpose() string { return f.purpose }

// At is when he gave it.
func (f Fresh) At() time.Time { return f.at }

// NewSeed makes the secret of an authenticator.
func NewSeed() []byte {
	seed := make([]byte, seedSize)
	rand.Read(seed)
	return seed
}

// Card is what somebody needs to put a seed into his authenticator.
type Card struct {
	PNG []byte // QR code
	Key string // the same, to be typed, in groups of four
}

// quiet is the white border around a QR code, without which not every camera finds it.
const quiet = 16

// NewCard draws the card of a seed. issuer and account are what the app shows.
func NewCard(issuer, account string, seed []byte) (Card, error) {
	key, err := lib.Generate(lib.GenerateOpts{Issuer: issuer, AccountName: account, Secret: seed, Period: period, Digits: opts.Digits, Algorithm: opts.Algorithm})
	if err != nil {
		return Card{}, errors.New("draw QR code: issuer or account cannot be used")
	}
	code, err := key.Image(224, 224)
	if err != nil {
		return Card{}, errors.New("draw QR code: issuer or account is too long")
	}
	size := code.Bounds().Dx() + 2*quiet
	canvas := image.NewGray(image.Rect(0, 0, size, size))
	draw.Draw(canvas, canvas.Bounds(), image.NewUniform(color.White), image.Point{}, draw.Src)
	draw.Draw(canvas, code.Bounds().Add(image.Pt(quiet, quiet)), code, image.Point{}, draw.Src)
	var b bytes.Buffer
	if err := png.Encode(&b, canvas); err != nil {
		return Card{}, fmt.Errorf("draw QR code: %w", err)
	}
	var groups []string
	for s := key.Secret(); s != ""; {
		n := min(4, len(s))
		groups, s = append(groups, s[:n]), s[n:]
	}
	return Card{b.Bytes(), strings.Join(groups, " ")}, nil
}

// Verifier checks codes. It is safe for concurrent use, also by several nodes.
type Verifier struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// New makes a Verifier over a pool of the service's role.
func New(pool *pgxpool.Pool, now func() time.Time) *Verifier { return &Verifier{pool, now} }

var sixDigits = regexp.MustCompile(`^[0-9]{6}$`)

const sqlClaim = "select access.claim_step($1, $2, $3)"

// Verify takes a code for an administrator, once. Only the code of the present time step counts. Of several requests with
// one code one succeeds, on whatever node; the others get ErrWrong.
func (v *Verifier) Verify(ctx context.Context, organisation, admin uuid.UUID, seed []byte, code string) (Proof, error) {
	code = strings.ReplaceAll(code, " ", "") // apps show "123 456"
	if !sixDigits.MatchString(code) {
		return Proof{}, ErrWrong
	}
	if len(seed) != seedSize {
		return Proof{}, errors.New("check code: the seed has not the size of one")
	}
	now := v.now()
	step := now.Unix() / period
	// The library's own check of times says neither which step matched nor whether it did before.
	ok, err := hotp.ValidateCustom(code, uint64(step), base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(seed), opts)
	if err != nil {
		return Proof{}, errors.New("check code: the seed cannot be used")
	}
	if !ok {
		return Proof{}, ErrWrong
	}
	var claimed bool
	if err := v.pool.QueryRow(ctx, sqlClaim, organisation, admin, step).Scan(&claimed); err != nil {
		return Proof{}, fmt.Errorf("take time step: %w", err)
	}
	if !claimed {
		return Proof{}, ErrWrong
	}
	return Proof{organisation, admin, step, now}, nil
}

const sqlRecall = "select organisation_id, admin_id, proved_at, coalesce(stepped_at, proved_at), stepped_for, stepped_by from access.session_proof($1)"

// Recall gives the proof with which a living session began, found by the hash of its token, and the second factor that was
// given within it. Without a session it gives zeros.
func (v *Verifier) Recall(ctx context.Context, tokenHash []byte) (Proof, Fresh, error) {
	var p Proof
	var f Fresh
	err := v.pool.QueryRow(ctx, sqlRecall, tokenHash).Scan(&p.organisation, &p.admin, &p.at, &f.at, &f.purpose, &f.method)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Proof{}, Fresh{}, nil
	case err != nil:
		return Proof{}, Fresh{}, fmt.Errorf("recall proof: %w", err)
	case f.purpose == "":
		return p, Fresh{}, nil
	}
	f.organisation, f.admin = p.organisation, p.admin
	return p, f, nil
}
