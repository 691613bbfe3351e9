package totp_test

import (
	"bytes"
	"encoding/base32"
	"errors"
	"fmt"
	"image/png"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/hotp"

	"counterfoil/internal/pg/pgtest"
	"counterfoil/internal/totp"
	"counterfoil/migrations"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }

// code is what an authenticator shows at a time.
func code(t *testing.T, seed []byte, at time.Time) string {
	t.Helper()
	c, err := hotp.GenerateCode(base32.StdEncoding.EncodeToString(seed), uint64(at.Unix()/30))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// AUTH-TOTP-05.
func TestOfManyRequestsWithOneCodeOneSucceeds(t *testing.T) {
	db := pgtest.Database(t, migrations.FS)
	now := time.Unix(1_800_000_010, 0)
	nodes := []*totp.Verifier{
		totp.New(db.Pool(t, "counterfoil_service"), func() time.Time { return now }),
		totp.New(db.Pool(t, "counterfoil_service"), func() time.Time { return now }),
	}
	organisation, admin, seed := uuid.New(), uuid.New(), totp.NewSeed()
	right := code(t, seed, now)
	var wg sync.WaitGroup
	var won atomic.Int32
	for i := range 32 {
		wg.Go(func() {
			proof, err := nodes[i%2].Verify(t.Context(), organisation, admin, seed, right)
			switch {
			case err == nil && proof.Admin() == admin && proof.Organisation() == organisation && proof.Step() == now.Unix()/30:
				won.Add(1)
			case !errors.Is(err, totp.ErrWrong) || proof != (totp.Proof{}):
				t.Errorf("%v %v", proof, err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of the requests succeeded", won.Load())
	}
	// Another administrator with the same seed is another one.
	if _, err := nodes[0].Verify(t.Context(), organisation, uuid.New(), seed, right); err != nil {
		t.Error(err)
	}
	if _, err := nodes[0].Verify(t.Context(), uuid.New(), admin, seed, right); err != nil {
		t.Error(err)
	}
}

// AUTH-TOTP-06.
func TestACodeCountsWithinItsHalfMinuteOnly(t *testing.T) {
	now := time.Unix(1_800_000_000, 0) // begins a step
	v := totp.New(pgtest.Database(t, migrations.FS).Pool(t, "counterfoil_service"), func() time.Time { return now })
	organisation, seed := uuid.New(), totp.NewSeed()
	shown := code(t, seed, now)
	begin := now
	for offset, want := range map[time.Duration]bool{-30 * time.Second: false, -time.Second: false, 0: true, 29 * time.Second: true, 30 * time.Second: false, time.Minute: false} {
		now = begin.Add(offset)
		if _, err := v.Verify(t.Context(), organisation, uuid.New(), seed, shown); (err == nil) != want {
			t.Errorf("%s after its beginning the code counts: %v", offset, err)
		}
	}
}

func TestNoEarlierCodeCountsAfterALaterOne(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	v := totp.New(pgtest.Database(t, migrations.FS).Pool(t, "counterfoil_service"), func() time.Time { return now })
	organisation, admin, seed := uuid.New(), uuid.New(), totp.NewSeed()
	if _, err := v.Verify(t.Context(), organisation, admin, seed, code(t, seed, now)); err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Minute) // the clock was set back
	if _, err := v.Verify(t.Context(), organisation, admin, seed, code(t, seed, now)); !errors.Is(err, totp.ErrWrong) {
		t.Errorf("a code of an earlier step: %v", err)
	}
	now = now.Add(2 * time.Minute)
	if _, err := v.Verify(t.Context(), organisation, admin, seed, code(t, seed, now)); err != nil {
		t.Errorf("a code of a later step: %v", err)
	}
}

// AUTH-TOTP-07.
func TestOnlySixDigitsAreACode(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	v := totp.New(pgtest.Database(t, migrations.FS).Pool(t, "counterfoil_service"), func() time.Time { return now })
	seed := totp.NewSeed()
	right := code(t, seed, now)
	wide := strings.Map(func(r rune) rune { return r - '0' + '０' }, right)
	for given, want := range map[string]bool{
		right: true, right[:3] + " " + right[3:]: true, " " + right + " ": true,
		"": false, right[:5]: false, right + "0": false, right + "\n": false, "\t" + right: false, wide: false, "-" + right[1:]: false, "+" + right[1:]: false, right + "\x00": false,
	} {
		if _, err := v.Verify(t.Context(), uuid.New(), uuid.New(), seed, given); (err == nil) != want || err != nil && !errors.Is(err, totp.ErrWrong) {
			t.Errorf("%q is taken: %v", given, err)
		}
	}
	if _, err := v.Verify(t.Context(), uuid.New(), uuid.New(), nil, right); err == nil || errors.Is(err, totp.ErrWrong) {
		t.Errorf("without a seed: %v", err)
	}
}

// AUTH-TOTP-01, AUTH-TOTP-03.
func TestACardHoldsTheSeedForPeopleAndCameras(t *testing.T) {
	seed := totp.NewSeed()
	if len(seed) != 20 || bytes.Equal(seed, totp.NewSeed()) {
		t.Fatalf("a seed has %d bytes", len(seed))
	}
	card, err := totp.NewCard("Counterfoil", "admin 7f2kq", seed)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base32.StdEncoding.DecodeString(strings.ReplaceAll(card.Key, " ", ""))
	if err != nil || !bytes.Equal(key, seed) {
		t.Errorf("the key is %x, %v", key, err)
	}
	image, err := png.Decode(bytes.NewReader(card.PNG))
	if err != nil || image.Bounds().Dx() != 256 {
		t.Fatalf("%v", err)
	}
	if _, err := totp.NewCard("Counterfoil", strings.Repeat("x", 5000), seed); err == nil || strings.Contains(err.Error(), fmt.Sprintf("%x", seed)) {
		t.Errorf("a label that is too long: %v", err)
	}
}
