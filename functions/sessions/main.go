// Command sessions is the Lambda function behind GET /admin/sessions.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Sessions, wire.Idle)) }
