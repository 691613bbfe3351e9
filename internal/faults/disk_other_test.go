//go:build !linux

package faults

import "errors"

var errNoMounts = errors.New("this system has no mount namespaces")

func inOwnNamespace() (int, error) { return 0, errNoMounts }

func mayMount() error { return errNoMounts }

type disk string

const roomy = 0

func moveToDisk(string) (disk, error) { return "", errNoMounts }

func (disk) leave(uint64) error  { return errNoMounts }
func (disk) resize(uint64) error { return errNoMounts }
func (disk) detach() error       { return errNoMounts }
