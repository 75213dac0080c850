// Command get is the Lambda function behind GET /org/get.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Get)) }
