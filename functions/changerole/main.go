// Command changerole is the Lambda function behind PUT /org/members/{admin_id}.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.ChangeRole)) }
