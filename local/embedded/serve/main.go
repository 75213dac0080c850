// Command serve runs the embedded database for the tests of other packages, in
// a process of its own: it prints its connection string, and ends, and forgets
// everything, when its standard input does.
package main

import (
	"fmt"
	"io"
	"os"

	"orgservice/local/embedded"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	dir, err := os.MkdirTemp("", "embedded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(dir, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := fmt.Fprintln(out, server.URL()); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}
