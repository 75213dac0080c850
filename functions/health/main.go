// Command health is the Lambda function behind GET /health.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Health)) }
