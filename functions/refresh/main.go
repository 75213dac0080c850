// Command refresh is the Lambda function behind POST /admin/refresh.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Refresh, wire.Tokens)) }
