// Command removemember is the Lambda function behind DELETE /org/members/{admin_id}.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.RemoveMember)) }
