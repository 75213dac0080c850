// Command serve runs the embedded database as a process or container of its own.
// It prints the connection string, and ends on SIGINT, on SIGTERM or at the end
// of its standard input. Then it deletes the data.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"orgservice/local/embedded"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address to listen on")
	legacy := flag.Bool("legacy", false, "behave as MongoDB 4.4")
	flag.Parse()
	options := []embedded.Option{embedded.Volatile}
	if *legacy {
		options = append(options, embedded.Legacy)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := run(ctx, *addr, options...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, addr string, options ...embedded.Option) error {
	runtime.GOMAXPROCS(1) // it runs one command at a time
	dir, err := os.MkdirTemp("", "embedded")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := embedded.Start(dir, addr, options...)
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := fmt.Println(server.URL()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
