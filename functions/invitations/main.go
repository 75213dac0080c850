// Command invitations is the Lambda function behind GET /org/invitations.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Invitations)) }
