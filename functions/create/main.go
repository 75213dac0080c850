// Command create is the Lambda function behind POST /org/create.
package main

import (
	"orgservice/shared/api"
	"orgservice/shared/mail"
	"orgservice/shared/wire"
)

func main() {
	api.Serve(wire.Handler(api.Create, wire.Passwords, wire.PasswordRules, wire.SignUps, mail.Need))
}
