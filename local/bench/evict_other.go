//go:build !linux

package main

import "errors"

// evictFile can take files out of the page cache only on Linux.
func evictFile(string) error { return errors.ErrUnsupported }
