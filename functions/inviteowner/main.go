// Command inviteowner is the Lambda function behind POST /operator/organizations.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/mail"
	"orgservice/shared/wire"
)

func main() { api.Serve(wire.Handler(api.InviteOwner, mail.Need)) }
