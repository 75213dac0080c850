// Command withdraw is the Lambda function behind DELETE /org/invitations/{id}.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Withdraw)) }
