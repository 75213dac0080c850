package main

import (
	"context"
	"errors"
	"fmt"

	"orgservice/local/scaffold"
)

// newFunction lays out a function of the name in its argument, and prints what is
// left to do.
func newFunction(ctx context.Context, p *project, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("usage: make new FN=name")
	}
	left, err := scaffold.New(ctx, p.root, args[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(p.stdout, left)
	return err
}
