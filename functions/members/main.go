// Command members is the Lambda function behind GET /org/members.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Members)) }
