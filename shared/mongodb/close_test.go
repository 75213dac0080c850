package mongodb_test

import (
	"context"
	"io"
	"net"
	"testing"

	"orgservice/shared/mongodb"
)

// TestCloseInTime closes a store while it connects to a server that never answers. It does not wait for
// the end of that.
func TestCloseInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted, ended := make(chan struct{}), make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		close(accepted)
		io.Copy(io.Discard, c)
		close(ended)
	}()
	store, err := mongodb.Open("mongodb://"+l.Addr().String()+"/", "x")
	if err != nil {
		t.Fatal(err)
	}
	<-accepted
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store.Close(ctx)
	select {
	case <-ended:
		t.Error("it has waited for the connection")
	default:
	}
}
