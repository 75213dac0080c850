// Command invite is the Lambda function behind POST /org/invitations.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/mail"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.Invite, mail.Need)) }
