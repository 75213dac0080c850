package main

import (
	"context"
	"io"
	"os"
	"testing"

	"orgservice/local/mongodbtest"
)

// TestStart starts a function that reaches Secrets Manager and the database over TLS. It trusts
// their certificate by the file of the system's authorities, and no other one.
func TestStart(t *testing.T) {
	db := mongodbtest.NewEmbedded(t)
	b := &bench{root: "../..", bin: t.TempDir(), database: db.URL, masterDB: db.Name, out: io.Discard}
	if err := b.readEnvironment(); err != nil {
		t.Fatal(err)
	}
	if err := b.build(t.Context(), "./functions/get"); err != nil {
		t.Fatal(err)
	}
	o, err := b.newObserver()
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	start := func(c circumstances) error {
		c.name = "get"
		did, err := o.start(context.Background(), c)
		if err == nil && (c.tls && did[encrypted] == 0 || c.references && did[fetches] == 0 || did[finished] == 0) {
			t.Errorf("%+v: %v", c, did)
		}
		return err
	}
	for _, c := range []circumstances{{}, {tls: true}, {tls: true, references: true}} {
		if err := start(c); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := os.WriteFile(o.roots, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []circumstances{{tls: true}, {tls: true, references: true}} {
		if err := start(c); err == nil {
			t.Errorf("%+v: trusted without a reason", c)
		}
	}
}
