// Command me is the Lambda function behind GET /admin/me.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Me)) }
