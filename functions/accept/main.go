// Command accept is the Lambda function behind POST /invitations/accept.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/wire"
)

func main() {
	api.Serve(wire.Handler(api.Accept, wire.Mails, wire.Passwords, wire.PasswordRules, wire.SignUps, wire.Tokens))
}
