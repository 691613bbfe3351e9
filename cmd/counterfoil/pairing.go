package main

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"counterfoil/internal/access/keyring"
)

// pairing is what the first of two operators of the host began: he is given a code, with which the second, another user of the operating system,
// repeats the command. What it is about lies beside it in a file.
type pairing struct {
	Operator string    `json:"operator"`
	Code     string    `json:"code"`
	Until    time.Time `json:"until"`
}

// pairingValid is how long a code is good for.
const pairingValid = time.Hour

// pair begins what a second operator has to confirm.
func pair() pairing {
	return pairing{operatorName(), rand.Text()[:8], time.Now().Add(pairingValid)}
}

// confirm says whether somebody who gives a code confirms what another began.
func (p pairing) confirm(name, code string) error {
	switch {
	case p.Code == "" || time.Now().After(p.Until):
		return usageError{"nobody has begun this within the last hour: run the command without --code first"}
	case subtle.ConstantTimeCompare([]byte(p.Code), []byte(code)) != 1:
		return usageError{"this is not the code that " + p.Operator + " was given"}
	case p.Operator == name:
		return usageError{p.Operator + " has begun this: another operator has to confirm it"}
	}
	return nil
}

// readBegun reads what the first operator began; zero when nobody did.
func readBegun[T any](file string) (begun T, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return begun, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &begun)
	}
	if err != nil {
		return begun, fmt.Errorf("read what the first operator began: %w", err)
	}
	return begun, nil
}

func writeBegun(file string, begun any) error {
	b, err := json.Marshal(begun)
	if err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return keyring.WriteSecret(file, b)
}
