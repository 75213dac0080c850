// Command db is the embedded database as a program of its own: built
// statically and put into a container, it is the MongoDB of functions that run
// in containers too. What it holds goes away with the container.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"orgservice/local/embedded"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "db")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(dir, "0.0.0.0:27017")
	if err != nil {
		return err
	}
	defer server.Close()
	fmt.Println("listening on", server.Addr())
	<-ctx.Done()
	return nil
}
