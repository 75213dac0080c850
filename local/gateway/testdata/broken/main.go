// Command broken fails before it asks for an event.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "DATABASE is not set")
	os.Exit(1)
}
